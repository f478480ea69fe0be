"""The stability study: networks of one pretraining, trained with N evaluations in two ways and tested with others."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from tests.profiles import PROFILES, SMOKE
from tests.vision.test_training import DIGITS, MEASURE, RECIPE, SETS

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.checkpoints.checkpoint import CheckpointError, load_tensors
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.layer import ImplicitConfig, LayerConfig, StopConfig
from deq_core.experiment.config.optim import OptimConfig
from deq_core.experiment.files import write_json
from deq_core.experiment.tables import Row, numbers, read_rows
from deq_core.experiment.tracking.run import ignore
from deq_vision import MDEQ, load, save
from deq_vision.cli import main
from deq_vision.config import ModelConfig
from deq_vision.data.mini.write_digits import write_digits
from deq_vision.evaluate import evaluate
from deq_vision.params import Classify, Experiment
from deq_vision.stability import measure
from deq_vision.stability_params import Measure, Method, Stability
from deq_vision.stability_plot import figures
from deq_vision.stability_report import overview, report
from deq_vision.stability_tables import StabilityTables
from deq_vision.train import train

ROOT = Path(__file__).parents[2]
assert isinstance(DIGITS.task, Classify)
STUDY = Stability(
    seeds=(0,),
    steps=(2, 3),
    task=DIGITS.task,
    model=ModelConfig(
        architecture=DIGITS.model.architecture,
        layer=LayerConfig(
            solver=deq.Broyden(),
            stop=StopConfig(max_steps=4),
            adjoint=ImplicitConfig(solver=deq.Broyden(), stop=StopConfig(max_steps=4)),
        ),
    ),
    pretraining=RECIPE,
    training=replace(RECIPE, pretraining=None, steps=1),
    measure=Measure(sweep=5, batch_size=4),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_digits(root / "digits", SETS.digits)
    return root


@pytest.fixture(scope="module")
def pretrained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    run(STUDY.pretrained(), data, folder)
    return folder / "out"


def run(experiment: Experiment, data: Path, folder: Path, start: Path | None = None) -> dict[str, torch.Tensor]:
    """The weights that a training comes to."""
    train(experiment, seed=0, data=data, out=folder / "out", scratch=folder / "scratch", log=ignore, start=start)
    return load_tensors(folder / "out" / "model.safetensors")


def test_both_ways_spend_the_evaluations_of_their_name_and_differ_in_the_gradient_alone() -> None:
    layers = {method: STUDY.trained(method, 3).model.layer for method in STUDY.methods}
    assert all(layer.stop == StopConfig(max_steps=3) and layer.eval_stop is None for layer in layers.values())
    assert layers["unrolled"].adjoint == deq.Unrolled()
    assert replace(layers["unrolled"], adjoint=layers["implicit"].adjoint) == layers["implicit"]


def test_evaluations_that_are_not_in_the_study_are_refused() -> None:
    with pytest.raises(ValueError, match="steps: expected one of 2, 3, got 4"):
        STUDY.trained("implicit", 4)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"seeds": ()}, "seeds: expected different ones"),
        ({"methods": ("unrolled", "unrolled")}, "methods: expected different ones"),
        ({"steps": (2, 5)}, "steps: expected at least 1 and fewer than measure.sweep, 5"),
        ({"longer": (0,)}, "longer: expected at least 1"),
        ({"model": replace(STUDY.model, numerics="released")}, "model.numerics: expected core"),
        (
            {"model": replace(STUDY.model, layer=replace(STUDY.model.layer, adjoint=deq.Unrolled()))},
            "model.layer.adjoint: expected kind implicit",
        ),
    ],
)
def test_a_study_that_could_not_be_made_is_refused(change: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(STUDY, **change)


def test_all_networks_of_a_seed_start_from_the_same_weights(data: Path, pretrained: Path, tmp_path: Path) -> None:
    still = replace(STUDY, training=replace(STUDY.training, optim=OptimConfig(name="sgd", lr=1e-12)))
    first = load_tensors(pretrained / "model.safetensors")
    for method in STUDY.methods:
        found = run(still.trained(method, 2), data, tmp_path / method, pretrained)
        for name, tensor in found.items():
            if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
                torch.testing.assert_close(tensor, first[name], atol=1e-9, rtol=1e-6)


def test_the_two_ways_lead_to_different_weights(data: Path, pretrained: Path, tmp_path: Path) -> None:
    found = [run(STUDY.trained(method, 3), data, tmp_path / method, pretrained) for method in STUDY.methods]
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_weights_of_another_network_are_refused(data: Path, pretrained: Path, tmp_path: Path) -> None:
    wider = replace(STUDY.model.architecture, channels=(8, 16))
    other = replace(STUDY, model=replace(STUDY.model, architecture=wider))
    with pytest.raises(CheckpointError, match="does not fit MDEQ"):
        run(other.trained("implicit", 2), data, tmp_path, pretrained)


def test_a_row_of_the_sweep_is_what_a_solve_of_so_many_evaluations_gives(data: Path, pretrained: Path) -> None:
    folder = pretrained.parent / "measured"
    splits = Measure(sweep=5, batch_size=4, splits=("test", "val"))
    metrics = measure(pretrained, STUDY.task, splits, data=data, out=folder, log=ignore)
    rows = read_rows(folder / "steps.csv")
    assert [(row["split"], row["step"]) for row in rows] == [(s, k) for s in ("test", "val") for k in range(1, 6)]
    for row in rows[:5]:
        stop = replace(MEASURE, stop=StopConfig(max_steps=int(numbers([row], "step")[0])), sweep=1, batch_size=4)
        alone, _ = evaluate(load(pretrained), STUDY.task, stop, data)
        assert row["top1"] == alone["top1"]
        assert row["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert metrics["test.loss_last"] == rows[4]["loss"]
    assert metrics["val.top1_last"] == rows[9]["top1"]


def test_sets_are_measured_where_the_manifest_says(data: Path, pretrained: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {"root": str(data)})
    splits = Measure(sweep=5, batch_size=4)
    found = [
        measure(pretrained, STUDY.task, splits, data=folder, out=tmp_path / name, log=ignore)
        for name, folder in (("here", data), ("there", tmp_path))
    ]
    assert found[0] == found[1]


def test_a_sweep_that_ends_before_the_evaluations_of_training_is_refused(data: Path, pretrained: Path) -> None:
    with pytest.raises(ValueError, match=r"measure\.sweep: expected at least the 4 evaluations of"):
        measure(pretrained, STUDY.task, Measure(sweep=3), data=data, out=pretrained.parent / "short", log=ignore)


def test_a_network_of_other_classes_is_not_measured(data: Path, tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", MDEQ(STUDY.model.architecture.with_classes(9), STUDY.model.equilibrium()))
    with pytest.raises(ConfigError, match=r"expected a head for Classification with 10 classes, .*, got .* with 9"):
        measure(tmp_path, STUDY.task, Measure(sweep=5), data=data, out=tmp_path / "out", log=ignore)


def tables(changes: dict[tuple[int, Method], list[float]]) -> StabilityTables:
    """Those of networks whose accuracy is 0.5 + step x a slope, one a seed."""

    def rows(slope: float) -> list[Row]:
        return [
            {"split": "test", "step": k, "loss": 1.0, "top1": 0.5 + slope * k, "residual": 1 / k} for k in range(1, 6)
        ]

    return StabilityTables(
        splits=("test",),
        steps=(2, 3),
        methods=("implicit", "unrolled"),
        rows={key: [rows(slope) for slope in slopes] for key, slopes in changes.items()},
    )


TABLES = tables(
    {
        (2, "implicit"): [0.0, 0.0],
        (2, "unrolled"): [-0.01, -0.03],
        (3, "implicit"): [0.0, 0.02],
        (3, "unrolled"): [-0.1, -0.1],
    }
)


def test_a_change_is_taken_within_a_seed_and_then_averaged(tmp_path: Path) -> None:
    values = report(TABLES, ["curves.svg"], longer=(1, 7), out=tmp_path)
    assert values["test.unrolled-2.top1"] == pytest.approx(0.46)
    assert values["test.unrolled-2.top1_at_5_change"] == pytest.approx(-0.06)
    assert values["test.unrolled-2.top1_at_5_change_std"] == pytest.approx(0.0424, abs=1e-4)
    assert values["test.unrolled-3.top1_at_4_change"] == pytest.approx(-0.1)
    assert values["test.implicit-3.residual_at_5"] == pytest.approx(0.2)
    assert "test.implicit-2.top1_at_9_change" not in values
    assert json.loads((tmp_path / "metrics.json").read_text()) == values
    page = (tmp_path / "report.md").read_text()
    assert "| 2 | unrolled | 0.460 ± 0.028 | -0.020 ± 0.014 |  | -0.060 ± 0.042 |" in page
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


def test_the_overview_repeats_what_the_report_wrote(tmp_path: Path) -> None:
    lines = overview(report(TABLES, [], longer=(1,), out=tmp_path)).splitlines()
    assert lines[0].startswith("| N | gradient | top-1 accuracy at N | change at 5 |")
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| 2", "implicit gradient"],
        ["| 2", "unrolled"],
        ["| 3", "implicit gradient"],
        ["| 3", "unrolled"],
    ]
    assert lines[3].startswith("| 2 | unrolled | 0.460 ± 0.028 | -0.060 ± 0.042 |")


def test_the_figure_is_drawn_to_the_same_bytes(tmp_path: Path) -> None:
    (first,) = figures(TABLES, out=tmp_path / "a", dpi=50)
    (second,) = figures(TABLES, out=tmp_path / "b", dpi=50)
    assert first.name == "curves.svg"
    assert first.read_bytes() == second.read_bytes()


def test_the_commands_lead_from_data_to_the_report(data: Path, tmp_path: Path) -> None:
    with SMOKE.open() as file:
        smoke = YAML(typ="safe", pure=True).load(file)["stability"]
    params = tmp_path / "params.yaml"
    with params.open("w") as file:
        YAML(typ="safe", pure=True).dump({"stability": {**smoke, "steps": [2]}}, file)
    common = ["--data", str(data), "--params", str(params)]
    scratch = ["--scratch", str(tmp_path / "scratch")]
    results = tmp_path / "results"
    main(["stability-pretrain", "--out", str(results / "pretrain" / "0"), *common, *scratch])
    for method in ("implicit", "unrolled"):
        name = f"{method}-2-0"
        chosen = ["--method", method, "--steps", "2", "--start", str(results / "pretrain" / "0")]
        main(["stability-train", *chosen, "--out", str(results / "train" / name), *common, *scratch])
        model = ["--model", str(results / "train" / name)]
        main(["stability-evaluate", *model, "--out", str(results / "evaluate" / name), *common])
    page = ["--results", str(results), "--params", str(params)]
    main(["stability-plot", *page, "--out", str(results / "figures")])
    main(["stability-report", *page, "--out", str(results)])
    assert "![curves.svg](figures/curves.svg)" in (results / "report.md").read_text()
    assert not list((tmp_path / "scratch").glob("stability-*"))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_a_study(profile: str) -> None:
    study: Stability = config.load(Stability, PROFILES[profile], "stability")
    assert study.methods == ("implicit", "unrolled")


def test_the_schema_of_the_section_is_the_dataclasses_own(tmp_path: Path) -> None:
    main(["stability-schema", str(tmp_path / "schema.json")])
    assert (tmp_path / "schema.json").read_text() == (ROOT / "workflows/schemas/stability.json").read_text()
