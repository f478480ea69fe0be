"""Studies: a case in, tables out; the tables of all cases in, a page out."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deq_core.experiment.config import ConfigError, Name, Seed
from deq_core.experiment.errors import LayoutError, NonFiniteError
from deq_core.experiment.study import plotting
from deq_core.experiment.study.registry import Studies
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Job, Section, Single, Stage, case_of
from deq_core.experiment.tables import numbers, read_rows, statistic, write_rows
from deq_core.experiment.tracking.run import ignore

PARAMS = "toy: {methods: [a, b], seeds: [0, 1], factor: 3.0, other: 1}"


@dataclass(frozen=True, kw_only=True)
class Toy:
    """The section of this study."""

    methods: tuple[Name, ...]
    seeds: tuple[Seed, ...]
    factor: float
    other: int


@dataclass(frozen=True)
class Case:
    """A job of it."""

    method: Name
    seed: Seed | None = None


def run(job: Job[Case, float]) -> Mapping[str, Any]:
    """Counts, as a measurement would."""
    for step in range(3):
        if job.settings < 0 and step == 2:
            raise NonFiniteError("step 2: not finite")
        job.tables["steps"].append({"step": step, "value": job.settings * step + (job.case.seed or 0)})
    job.arrays["maps"] = {"values": torch.arange(3)}
    return {"last": {"value": job.settings * 2 if job.settings else math.nan}}


def page(section: Section, results: Results) -> Page:
    """Means over seeds."""
    methods, seeds = section.load(tuple[Name, ...], "methods"), section.load(tuple[Seed, ...], "seeds")
    found = {name: results.rows("measure", [Case(name, seed) for seed in seeds], "steps") for name in methods}
    figure, _ = plotting.figure()
    means = {name: statistic(numbers(rows, "value")).mean for name, rows in found.items()}
    return Page(title="Toys", metrics=means, parts=["Counted."], figures={"curves": figure})


STAGE = Stage(
    name="toy.measure", section="toy", case=Case, settings=lambda section, case: section.load(float, "factor"), run=run
)
REPORT = Report(name="toy.report", section="toy", page=page)
TRAIN = replace(STAGE, name="toy.train", run=lambda job: trained(job), trains=True)
STUDIES = Studies(
    package="deq_core",
    data=Path("data"),
    stages={"toy": f"{__name__}:STAGE", "toy-train": f"{__name__}:TRAIN"},
    reports={"toy": f"{__name__}:REPORT"},
    sections={"toy": f"{__name__}:Toy"},
)


def trained(job: Job[Case, float]) -> Mapping[str, Any]:
    """A training that is interrupted once, and says where it resumed."""
    mark = job.scratch / "training.pt"
    if not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)  # the run's identity is there
        mark.write_text("")
        raise KeyboardInterrupt
    job.trained = (nn.Linear(1, 1), {"of": "toys"})
    return {"resumed": 1}


@pytest.fixture(autouse=True)
def here(tracking_database: Path) -> None:
    Path("params.yaml").write_text(PARAMS)


def measure(*case: str, stage: str = "toy", out: str = "out") -> None:
    STUDIES.study(stage, case, Path(out))


def test_a_case_leaves_its_tables_arrays_and_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    measure("method=a", "seed=1")
    assert [row["value"] for row in read_rows(Path("out/steps.csv"))] == [1.0, 4.0, 7.0]
    assert Results(Path(), "toy").arrays("", Folder("out"), "maps")["values"].tolist() == [0, 1, 2]
    assert json.loads(Path("out/metrics.json").read_text()) == {"last": {"value": 6.0}}
    assert json.loads(capsys.readouterr().out) == {"last.value": 6.0}


@dataclass(frozen=True)
class Folder:
    """A case whose folder is called so."""

    name: str


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "expected the case as method=... [seed=...], got nothing"),
        (["seed=1"], "expected the case as method=... [seed=...], got seed=1"),
        (["method=a", "seed"], "expected the case as"),
        (["method=a", "seed=0", "seed=1"], "expected the case as"),
        (["method=a", "seed=-1"], "seed: Input should be greater than or equal to 0"),
        (["method=../a", "seed=0"], "a name is letters"),
        (["method=a", "seed=x"], "seed: Input should be a valid integer"),
    ],
)
def test_a_case_that_is_none_is_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        case_of(Case, words)


def test_what_a_case_leaves_open_is_in_none_of_its_names() -> None:
    measure("method=a", out="results/measure/a")
    results = Results(Path("results"), "toy")
    assert [row["value"] for row in results.rows("measure", [Case("a")], "steps")] == [0.0, 3.0, 6.0]


def test_what_was_measured_before_a_value_that_is_not_finite_is_kept() -> None:
    Path("params.yaml").write_text(PARAMS.replace("3.0", "-3.0"))
    with pytest.raises(NonFiniteError, match="what was measured before it is in out-partial"):
        measure("method=a", "seed=0")
    assert len(read_rows(Path("out-partial/steps.csv"))) == 2
    assert not Path("out").exists()


def test_a_metric_that_is_not_finite_does_not_lose_the_tables() -> None:
    Path("params.yaml").write_text(PARAMS.replace("3.0", "0.0"))
    said = r"toy\.measure: expected finite metrics, got last\.value nan; what was measured before it is in out-partial"
    with pytest.raises(NonFiniteError, match=said):
        measure("method=a", "seed=0")
    assert len(read_rows(Path("out-partial/steps.csv"))) == 3
    assert not Path("out").exists()


def test_a_key_that_no_stage_knows_is_refused() -> None:
    Path("params.yaml").write_text(PARAMS.replace("other", "others"))
    with pytest.raises(ConfigError, match=r"toy\.others: expected one of the keys"):
        measure("method=a", "seed=0")


def test_an_interrupted_training_resumes_and_leaves_no_checkpoint() -> None:
    with pytest.raises(KeyboardInterrupt):
        measure("method=a", "seed=0", stage="toy-train")
    assert len(list(Path(".scratch").iterdir())) == 1
    measure("method=a", "seed=0", stage="toy-train")
    assert json.loads(Path("out/metrics.json").read_text()) == {"resumed": 1}
    assert {path.name for path in Path("out").glob("[!.]*")} == {"model.safetensors", "config.json", "metrics.json"}
    assert not list(Path(".scratch").iterdir())


def test_a_report_takes_the_cases_of_the_parameters_and_no_other() -> None:
    for method in ("a", "b"):
        for seed in (0, 1, 2):
            measure(f"method={method}", f"seed={seed}", out=f"results/measure/{method}-{seed}")
    STUDIES.report("toy", results=Path("results"), out=Path("page"))
    assert json.loads(Path("page/metrics.json").read_text()) == {"a": 3.5, "b": 3.5}
    assert Path("page/report.md").read_text() == "# Toys\n\nCounted.\n\n![curves](curves.svg)\n"
    assert Path("page/curves.svg").exists()


def test_a_report_of_cases_that_were_not_measured_says_which_and_what_to_do() -> None:
    measure("method=a", "seed=0", out="results/measure/a-0")
    wanted = "expected the results of 2 cases of measure, but 1 are missing, such as measure/a-1; `snakemake toy`"
    with pytest.raises(LayoutError, match=wanted):
        STUDIES.report("toy", results=Path("results"), out=Path("page"))


def test_a_name_that_is_none_is_answered_by_those_that_are() -> None:
    with pytest.raises(ConfigError, match="no stage of a study is named 'toys'; there are toy, toy-train"):
        measure("method=a", "seed=0", stage="toys")
    with pytest.raises(ConfigError, match="no report is named 'toys'; there are toy"):
        STUDIES.report("toys", results=Path(), out=Path("page"))


def test_a_stage_that_measures_a_network_asks_for_one() -> None:
    job = Job(case=Single(), settings=0.0, data=Path(), out=Path(), scratch=Path(), log=ignore)
    with pytest.raises(ConfigError, match="expected --checkpoint"):
        _ = job.network
    assert replace(job, model=Path("trained")).network == Path("trained")


def test_the_only_case_of_a_stage_has_no_words_and_no_folder() -> None:
    write_rows(Path("results/baselines/orders.csv"), [{"order": 1}])
    case = case_of(Single, [])
    assert Results(Path("results"), "toy").rows("baselines", [case], "orders") == [{"order": 1}]
    with pytest.raises(ConfigError, match="expected no case, got seed=0"):
        case_of(Single, ["seed=0"])
