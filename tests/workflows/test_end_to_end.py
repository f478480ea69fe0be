"""One pipeline through both engines, for real: one state, whoever ran last and however it ended."""

import csv
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
import yaml
from tests.guides import steps
from tests.workflows.checkout import ROOT, copy, environment, run, set_parameters

from workflows.engines.graph import outputs

pytestmark = pytest.mark.slow

NOTHING = "Nothing to be done (all requested files are present and up to date)."
UP_TO_DATE = "Data and pipelines are up to date."
SNAKEMAKE = ("snakemake", "--cores", "2", "all")
DVC = ("dvc", "repro")
MODEL = "results/sequence/train/characters-deq-0/model.safetensors"
TRAIN = "sequence_train@characters-deq-0"
SHOWN, SWEEP, CHOSEN = (step.text for step in steps("comparing-runs.md"))
ENGINES = {
    "snakemake": ("snakemake", "--cores", "1", MODEL),
    "dvc": ("dvc", "repro", "--single-item", TRAIN),
}


STAND_IN = """#!{python} -SE
import os, pathlib, sys
files, words = {files}, [word for word in sys.argv[1:3] if word[0] != "-"]
if " ".join(words) not in files:
    os.execv("{program}", ["{program}", *sys.argv[1:]])
for name in files[" ".join(words)]:
    path = pathlib.Path(sys.argv[sys.argv.index("--out") + 1], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = {{".json": '{{"value": 1}}', ".csv": "panel,curve,x,y\\na,b,1,2\\n"}}
    path.write_text(texts.get(path.suffix, " ".join(sys.argv)))
"""
"""In the place of `deq-sequence`: it writes the outputs of studies and reports in no time."""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That program."""
    files = {}
    for stage in definitions().values():
        words = stage["cmd"].replace("{", "${").split()[4:]
        if words and words[1] in ("study", "report"):
            out = words[words.index("--out") + 1]
            files[" ".join(words[1:3])] = [path.removeprefix(f"{out}/") for path in outputs(stage)]
    path = tmp_path_factory.mktemp("programs") / "deq-sequence"
    program = Path(sys.executable).with_name(path.name)
    path.write_text(STAND_IN.format(python=sys.executable, files=files, program=program))
    path.chmod(0o755)
    return path


def definitions() -> dict[str, dict]:
    """The pipeline `sequence` but for two of its studies, and what both engines begin with."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    wanted = re.compile(r"check|code|sequence_(?!paths|training_costs)")
    return {name: stage for name, stage in stages.items() if wanted.match(name)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, stand_in: Path) -> Path:
    """A checkout of that pipeline in which Snakemake has run everything."""
    folder = copy(tmp_path_factory.mktemp("finished"))
    text = yaml.safe_dump({"stages": definitions()}, sort_keys=False)
    (folder / "dvc.yaml").write_text(text.replace("workflows.stage deq-sequence ", f"workflows.stage {stand_in} "))
    set_parameters(folder, {}, name="smoke")
    run(folder, *SNAKEMAKE)
    return folder


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished checkout, with its dates, for a test to change."""
    folder = tmp_path / "workspace"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "results" / "logs")
    return folder


def stages_run(folder: Path, said: str) -> set[str]:
    """The stages whose commands an engine ran: DVC says so, in the log of a rule where Snakemake called it.

    Without those that both engines begin with.
    """
    texts = [said, *(path.read_text() for path in (folder / "results").glob("logs/**/*.log"))]
    names = {name for text in texts for name in re.findall(r"^Running stage '(.+)':$", text, re.MULTILINE)}
    return names - {"check", "code"}


def changed(folder: Path) -> set[str]:
    """The stages that DVC finds changed, without the one that it runs each time."""
    return json.loads(run(folder, "dvc", "status", "--json").stdout).keys() - {"check"}


def recorded(folder: Path) -> dict[str, dict]:
    """The stages in dvc.lock."""
    return yaml.safe_load((folder / "dvc.lock").read_text())["stages"]


def tracked(folder: Path, tag: str) -> dict[str, list[str]]:
    """Values of a tag of the runs in MLflow, by stage."""
    query = """
        select stage.value, tag.value from tags as stage left join tags as tag
        on tag.run_uuid = stage.run_uuid and tag.key = ? where stage.key = 'dvc.stage'
    """
    values = defaultdict(list)
    with sqlite3.connect(folder / "mlflow.db") as database:
        for stage, value in database.execute(query, (tag,)):
            values[stage].append(value)
    database.close()
    return values


def test_after_snakemake_nothing_is_left_for_either_engine(finished: Path) -> None:
    assert changed(finished) == set()
    assert NOTHING in run(finished, "snakemake", "--dry-run").stdout
    assert stages_run(finished, "") == set(recorded(finished)) - {"code"}


def test_a_run_names_the_engine_and_the_digests_of_dvc_lock(finished: Path) -> None:
    assert tracked(finished, "engine")[TRAIN] == ["snakemake"]
    digests = {out["path"]: out["md5"] for out in recorded(finished)[TRAIN]["outs"]}
    assert tracked(finished, f"out.{MODEL}")[TRAIN] == [digests[MODEL]]
    marks = {"profile": "smoke", "pipeline": "sequence", "kind": "train", "method": "characters-deq", "seed": "0"}
    assert {tag: tracked(finished, tag)[TRAIN][0] for tag in marks} == marks


def test_a_report_is_made_without_a_network(finished: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    run(finished, "snakemake", "--report", str(report))
    assert "results/sequence/report/perplexity/iterations.svg" in report.read_text()


def test_snakemake_reruns_what_depends_on_a_changed_number_restores_what_is_damaged_and_dvc_agrees(
    workspace: Path,
) -> None:
    set_parameters(workspace, {"sequence.plot.dpi": 75})
    damaged = workspace / "results/sequence/baselines/orders.csv"
    right = damaged.read_bytes()
    damaged.write_bytes(right[:20])
    run(workspace, *SNAKEMAKE)
    assert stages_run(workspace, "") == {"sequence_report", "sequence_delta_report"}
    assert damaged.read_bytes() == right
    assert changed(workspace) == set()


def test_an_experiment_of_dvc_reruns_what_depends_on_the_number_that_it_names_and_snakemake_agrees(
    workspace: Path,
) -> None:
    before = (workspace / "params.yaml").read_text()
    said = run(workspace, "dvc", "exp", "run", "--set-param", "sequence.plot.smoothing=7").stdout
    assert stages_run(workspace, said) == {"sequence_report", "sequence_delta_report"}
    document = json.loads(before)
    document["sequence"]["plot"]["smoothing"] = 7
    assert yaml.safe_load((workspace / "params.yaml").read_text()) == document
    assert NOTHING in run(workspace, "snakemake", "--dry-run").stdout


def test_a_sweep_of_queued_experiments_is_compared_recorded_in_the_one_store_and_taken_over(workspace: Path) -> None:
    assert "sequence_report" in SWEEP
    assert ",4e-3,8e-3,1.6e-2" in SWEEP
    run(workspace, "sh", "-ec", SWEEP.replace("sequence_report", TRAIN).replace(",4e-3,8e-3,1.6e-2", ""))
    table = list(csv.DictReader(run(workspace, "dvc", "exp", "show", "--csv", "--only-changed").stdout.splitlines()))
    rates = ["0.001", "0.002"]
    rate = "sequence.train.characters-deq.optim.lr"
    experiments = {row[rate]: row["Experiment"] for row in table if row["State"] == "Success"}
    assert sorted(experiments) == rates
    assert len(tracked(workspace, "engine")[TRAIN]) == 1 + len(rates)
    first, second = (experiments[rate] for rate in rates)
    chosen = CHOSEN.replace("OTHER-NAME", second).replace("NAME", first).replace("main", "HEAD")
    run(workspace, "sh", "-ec", f"{SHOWN}\n{chosen}")
    assert (
        yaml.safe_load((workspace / "params.yaml").read_text())["sequence"]["train"]["characters-deq"]["optim"]["lr"]
        == 0.001
    )


def test_a_sweep_that_fails_as_it_grows_is_finished_by_the_other_engine(workspace: Path) -> None:
    grown = {f"sequence_{stage}@characters-deq-1" for stage in ("train", "evaluate", "delta")}
    pages = {"sequence_report", "sequence_delta_report"}
    users = workspace / "results/sequence/train/characters-deq-1/notes.txt"
    users.parent.mkdir()
    users.write_text("mine")
    set_parameters(workspace, {"sequence.seeds": [0, 1]})
    process = run(workspace, *SNAKEMAKE, check=False)
    assert process.returncode != 0
    assert re.search(r"deq-sequence: cannot write \S+characters-deq-1.*notes\.txt", process.stdout)
    assert stages_run(workspace, "") == {"sequence_train@characters-deq-1"}
    users.unlink()
    assert stages_run(workspace, run(workspace, *DVC).stdout) == grown | pages


@pytest.mark.parametrize(("first", "second"), [("snakemake", "dvc"), ("dvc", "snakemake")])
def test_a_killed_training_resumes_under_either_engine_to_the_same_result(
    first: str, second: str, finished: Path, workspace: Path
) -> None:
    forget(workspace, TRAIN)
    kill_when(workspace.glob, ".scratch/*/training.pt", ENGINES[first], workspace)
    assert not (workspace / MODEL).exists()
    said = run(workspace, *ENGINES[second]).stdout
    assert TRAIN in stages_run(workspace, said)
    assert recorded(workspace)[TRAIN]["outs"] == recorded(finished)[TRAIN]["outs"]
    assert len(tracked(workspace, "engine")[TRAIN]) == 1 + 1  # the run of the killed process went on
    assert list(workspace.glob(".scratch/sequence_train-*")) == []


def forget(folder: Path, stage: str) -> None:
    """Removes a stage's outputs and all records of its results, so that they can only come from a run."""
    for out in recorded(folder)[stage]["outs"]:
        (folder / out["path"]).unlink()
    shutil.rmtree(folder / ".dvc/cache/runs")
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    del lock["stages"][stage]
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def kill_when(find: Callable[[str], Iterable[Path]], pattern: str, command: Sequence[str], folder: Path) -> None:
    """Starts a command and kills it, with all that it started, as soon as a file of `pattern` is there."""
    with subprocess.Popen(
        command, cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while process.poll() is None and not any(find(pattern)):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    while is_alive(process.pid):
        time.sleep(0.01)


def is_alive(group: int) -> bool:
    """Whether the system still knows a process of this group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
