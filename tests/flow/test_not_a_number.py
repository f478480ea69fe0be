"""A network that gives NaN ends a command in one sentence, and nothing that was measured before is lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.flow.small import equilibrium, equilibrium_model, store, unrolled, write_kitti_set, write_sintel
from tests.jobs import run

import deq_core as deq
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.delta import Rule, Variant
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.stage import Single, Stage
from deq_core.experiment.tables import read_rows
from deq_flow.cli import main
from deq_flow.config import Scales
from deq_flow.data.io import read_flo, write_flo
from deq_flow.evaluation.baselines import Baseline
from deq_flow.evaluation.evaluate import Prediction
from deq_flow.export import export
from deq_flow.inference import Estimator
from deq_flow.inference_params import Inference
from deq_flow.models import DEQFlow
from deq_flow.studies.delta.convergence import CONVERGENCE, Convergence
from deq_flow.studies.delta.sweep import SWEEP, Example, Part, Sweep
from deq_flow.studies.reuse import REUSE, Reuse
from deq_flow.studies.table import BASELINES, EVALUATE, Evaluate

STOP = StopConfig(max_steps=2)
SENTENCE = "alley_1/frame_0003: the flow is not finite at 1536 of 1536 pixels"
"""Of the third pair of Sintel."""


@pytest.fixture
def folder(tracking_database: Path) -> Path:
    """A working directory with data and a checkpoint."""
    root = tracking_database.parent
    for split in ("training", "test"):
        write_sintel(root / "data", split)
    write_kitti_set(root / "data", "testing")
    store(root / "net", equilibrium_model())
    return root


def spoil(monkeypatch: pytest.MonkeyPatch, pair: int) -> None:
    """Makes the pair of this number, from 1 and over all batches, one whose features are NaN."""
    whole, seen = DEQFlow.encode, 0

    def spoiled(self, image1: torch.Tensor, image2: torch.Tensor, base: torch.Tensor | None = None):
        nonlocal seen
        found = whole(self, image1, image2, base)
        context = found.context.clone()
        for index in range(len(image1)):
            seen += 1
            if seen == pair:
                context[index] = torch.nan
        return replace(found, context=context)

    monkeypatch.setattr(DEQFlow, "encode", spoiled)


@pytest.mark.parametrize("weights", ["mask", "flow_head", "gru", "encoder.convf", "fnet", "cnet"])
def test_a_network_that_gives_no_number_gives_no_flow(weights: str) -> None:
    network = equilibrium()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if weights in name:
                parameter.fill_(torch.nan)
    first, second = 255 * torch.rand(2, 1, 3, 32, 48)
    state = (torch.zeros(1, network.size.hidden, 8, 12), torch.ones(1, 2, 8, 12))
    for start in (None, state):
        output = Estimator(network)(first, second, None if start is None else (start,))
        assert output.flow.isnan().all(), "neither zero nor what it started from"


def test_a_sample_without_flow_leaves_its_neighbours_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = 255 * torch.rand(2, 3, 3, 32, 48)
    whole = Estimator(equilibrium())(first, second)
    spoil(monkeypatch, 2)
    spoiled = Estimator(equilibrium())(first, second)
    assert spoiled.flow[1].isnan().all()
    assert spoiled.flow_low[1].isnan().all()
    assert torch.equal(spoiled.flow[[0, 2]], whole.flow[[0, 2]])


@pytest.mark.parametrize("finest", [1.0, 2.0])
def test_no_finer_scale_hides_a_coarse_one_without_flow(monkeypatch: pytest.MonkeyPatch, finest: float) -> None:
    estimate = Estimator(equilibrium(), Inference(scales=Scales(coarsest=32, finest=finest)))
    first, second = 255 * torch.rand(2, 3, 3, 32, 48)
    whole = estimate(first, second)
    spoil(monkeypatch, 2)
    spoiled = estimate(first, second)
    assert len(spoiled.solutions) > 1
    assert spoiled.flow[1].isnan().all()
    assert torch.equal(spoiled.flow[[0, 2]], whole.flow[[0, 2]])


@pytest.mark.parametrize(
    ("arguments", "table", "named"),
    [
        (["evaluate", "net", "--data", "data", "--set", "sintel_clean"], "samples.csv", "sintel_clean, "),
        (["sequences", "net"], "frames.csv", "sintel_clean, own, cold, "),
    ],
)
def test_a_measurement_names_the_pair_and_keeps_those_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], table: str, named: str
) -> None:
    main([*arguments, "--out", "out"])
    earlier = Path("out", table).read_bytes()
    spoil(monkeypatch, 3)
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--out", "out"])
    message = str(stopped.value.code)
    assert message.startswith(f"deq-flow: {named}{SENTENCE}")
    assert message.endswith("what was measured before it is in out-partial")
    assert Path("out", table).read_bytes() == earlier, "a folder of results is whole"
    names = [row["name"] for row in read_rows(Path("out-partial", table))]
    assert names == ["alley_1/frame_0001", "alley_1/frame_0002"]
    assert earlier.startswith(Path("out-partial", table).read_bytes())


@pytest.mark.parametrize(("command", "table"), [("evaluate net --data data", "samples"), ("sequences net", "frames")])
@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("clean/alley_1/frame_0004.png", r"frame_0004\.png: expected the end of a PNG file, got 100 bytes"),
        ("flow/alley_1/frame_0003.flo", "alley_1/frame_0003: expected flow that is known at one pixel at least"),
    ],
)
def test_a_pair_that_cannot_be_measured_is_named_and_those_before_are_kept(
    folder: Path, command: str, table: str, file: str, fault: str
) -> None:
    path = folder / "data" / "Sintel" / "training" / file
    if path.suffix == ".flo":
        write_flo(path, torch.full_like(read_flo(path), torch.nan))
    else:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SystemExit, match=rf"^deq-flow: .*{fault}.* what was measured before it is in out-partial$"):
        main([*command.split(), "--set", "sintel_clean", "--out", "out"])
    names = [row["name"] for row in read_rows(Path("out-partial", f"{table}.csv"))]
    assert names == ["alley_1/frame_0001", "alley_1/frame_0002"]


def test_where_nothing_was_measured_nothing_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, 1)
    with pytest.raises(SystemExit, match=r"frame_0001: the flow is not finite at 1536 of 1536 pixels[^;]*;[^;]*$"):
        main(["evaluate", "net", "--data", "data", "--set", "sintel_clean", "--out", "out"])
    assert not list(Path().glob("out*"))


def test_the_rows_before_a_sweep_are_kept_and_those_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("params.yaml").write_text("{sweeps: {a: {iterations: [1, 2]}}}")
    spoil(monkeypatch, 5 + 3)
    with pytest.raises(SystemExit, match=f"sintel_clean, a, {SENTENCE[:18]}, after 1 iterations: the flow is not"):
        main(["evaluate", "net", "--data", "data", "--set", "sintel_clean", "--out", "out", "--section", ""])
    assert len(read_rows(Path("out-partial/samples.csv"))) == 5
    assert len(read_rows(Path("out-partial/sweeps.csv"))) == 2 * 2


@pytest.mark.parametrize("leaderboard", ["sintel", "kitti"])
def test_a_submission_keeps_the_files_before(folder: Path, monkeypatch: pytest.MonkeyPatch, leaderboard: str) -> None:
    spoil(monkeypatch, 2)
    with pytest.raises(SystemExit, match=r"the flow is not finite.*measured before it is in out-partial"):
        main(["submit", leaderboard, "net", "--out", "out"])
    assert not Path("out").exists()
    files = [path for path in Path("out-partial").rglob("*.*") if path.suffix]
    assert len(files) == 1
    if leaderboard == "sintel":
        assert read_flo(files[0]).isfinite().all()


VARIANT = Variant(solver=deq.FixedPointIteration(), stop=STOP, rule=Rule(thresholds=(0.1,)))
SETS = ("sintel_clean",)
STUDIES: dict[str, tuple[Stage, Any, int, str]] = {
    "evaluate": (EVALUATE, Evaluate(sets=SETS, stop=STOP, sweep=3, batch_size=2), 2, "samples.csv"),
    "reuse": (REUSE, Reuse(methods=(), shipped=(), set=SETS[0], starts=("cold",)), 2, "frames.csv"),
    "delta": (
        SWEEP,
        Sweep(
            sets={"sintel_clean": Part()},
            variants={"a": VARIANT},
            steps=(2,),
            example=Example(set="sintel_clean", variant="a", threshold=0.1),
        ),
        2 * 2,
        "samples.csv",
    ),
    "convergence": (
        CONVERGENCE,
        Convergence(sets=SETS, solver=deq.FixedPointIteration(), steps=3, tolerance=0.1),
        3,
        "steps.csv",
    ),
}


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_names_the_pair_and_keeps_what_came_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, study: str
) -> None:
    stage, settings, rows, table = STUDIES[study]
    spoil(monkeypatch, 3)
    with pytest.raises(NonFiniteError, match=r"alley_1/frame_0003.*: the flow is not finite.* is in out-partial$"):
        run(stage, Measured("net"), settings, Path("out"), model=Path("net"))
    assert not Path("out").exists()
    assert len(read_rows(Path("out-partial", table))) == rows


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_without_its_device_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch, study: str) -> None:
    stage, settings, *_ = STUDIES[study]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device: cuda is not available"):
        run(stage, Measured("net"), replace(settings, device="cuda"), Path("out"), model=Path("net"))


def test_a_peer_that_gives_no_number_is_treated_alike(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Evaluate(sets=SETS, sweep=1, batch_size=2)
    monkeypatch.setattr(
        "deq_flow.studies.table.dis", lambda _: lambda batch: Prediction(torch.full_like(batch.flow, torch.inf))
    )
    with pytest.raises(NonFiniteError, match="sintel_clean, alley_1/frame_0001: the flow is not finite"):
        run(BASELINES, Single(), (config, {"dis": Baseline(preset="fast")}), Path("out"))
    rows = read_rows(Path("out-partial/samples.csv"))
    assert [row["method"] for row in rows] == 5 * ["zero"]


def test_no_file_is_exported_of_a_network_without_flow(tmp_path: Path) -> None:
    network = unrolled()
    with torch.no_grad():
        next(network.fnet.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match=r"flow\.pt2: the flow is not finite"):
        export(network, tmp_path / "flow.pt2", format="torch", steps=2)
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_kept_both_reasons_are_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out-partial").mkdir()
    Path("out-partial/thesis.tex").touch()
    spoil(monkeypatch, 3)
    with pytest.raises(SystemExit, match=r"frame_0003: the flow is not finite.* is lost: cannot write out-partial"):
        main(["sequences", "net", "--out", "out"])
    assert [path.name for path in Path("out-partial").iterdir()] == ["thesis.tex"]


def test_a_second_failure_keeps_its_own_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pair in (3, 5):
        with monkeypatch.context() as patch:
            spoil(patch, pair)
            with pytest.raises(SystemExit, match=r"is in out-partial$"):
                main(["sequences", "net", "--out", "out"])
        assert len(read_rows(Path("out-partial/frames.csv"))) == pair - 1
