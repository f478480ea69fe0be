"""The stability study: networks of one pretraining, trained with N evaluations in two ways and tested with others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from tests.profiles import PROFILES, SMOKE
from tests.vision.test_training import DIGITS, MEASURE, RECIPE

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.checkpoints.checkpoint import CheckpointError, load_tensors
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.layer import ImplicitConfig, LayerConfig, StopConfig
from deq_core.experiment.config.optim import OptimConfig
from deq_core.experiment.files import write_json
from deq_core.experiment.study.report import Page, Results
from deq_core.experiment.study.stage import Job, Section
from deq_core.experiment.tables import Row, numbers, write_rows
from deq_core.experiment.tracking.run import ignore
from deq_vision import MDEQ, load, save
from deq_vision.cli import main
from deq_vision.config import ModelConfig
from deq_vision.evaluate import evaluate
from deq_vision.params import Classify, Experiment
from deq_vision.reports.stability import overview, page
from deq_vision.studies.paths import VisionPaths
from deq_vision.studies.stability import Measure, Measurement, Method, Stability, Trained, swept
from deq_vision.tasks import batches_in_order, loss
from deq_vision.train import train

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
    paths=VisionPaths(evaluations=2, solvers={"plain": deq.FixedPointIteration()}, samples=2),
)
EXPERIMENT = Experiment(task=STUDY.task, model=STUDY.model, recipe=STUDY.training)


def trained(method: Method, steps: int, experiment: Experiment = EXPERIMENT) -> Experiment:
    """The training of one network."""
    return replace(experiment, model=Trained(method, steps, 0).variant(experiment.model))


def measured(model: Path, config: Measure, data: Path, out: Path) -> tuple[dict, list[Row]]:
    """Metrics and rows of a network that is tested."""
    case = Trained("implicit", 4, 0)
    settings = Measurement(task=STUDY.task, measure=config, paths=STUDY.paths)
    job = Job(case=case, settings=settings, data=data, model=model, out=out, scratch=out, log=ignore)
    return swept(job), job.tables["steps"]


@pytest.fixture(scope="module")
def pretrained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    run(replace(EXPERIMENT, recipe=STUDY.pretraining), data, folder)
    return folder / "out"


def run(experiment: Experiment, data: Path, folder: Path, start: Path | None = None) -> dict[str, torch.Tensor]:
    """The weights that a training comes to."""
    train(experiment, seed=0, data=data, out=folder / "out", scratch=folder / "scratch", log=ignore, start=start)
    return load_tensors(folder / "out" / "model.safetensors")


def test_both_ways_spend_the_evaluations_of_their_name_and_differ_in_the_gradient_alone() -> None:
    layers = {method: trained(method, 3).model.layer for method in STUDY.methods}
    assert all(layer.stop == StopConfig(max_steps=3) and layer.eval_stop is None for layer in layers.values())
    assert layers["unrolled"].adjoint == deq.Unrolled()
    assert replace(layers["unrolled"], adjoint=layers["implicit"].adjoint) == layers["implicit"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"seeds": ()}, "seeds: expected one at least"),
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
    still = replace(EXPERIMENT, recipe=replace(STUDY.training, optim=OptimConfig(name="sgd", lr=1e-12)))
    first = load_tensors(pretrained / "model.safetensors")
    for method in STUDY.methods:
        found = run(trained(method, 2, still), data, tmp_path / method, pretrained)
        for name, tensor in found.items():
            if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
                torch.testing.assert_close(tensor, first[name], atol=1e-9, rtol=1e-6)


def test_the_two_ways_lead_to_different_weights(data: Path, pretrained: Path, tmp_path: Path) -> None:
    found = [run(trained(method, 3), data, tmp_path / method, pretrained) for method in STUDY.methods]
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_weights_of_another_network_are_refused(data: Path, pretrained: Path, tmp_path: Path) -> None:
    wider = replace(STUDY.model.architecture, channels=(8, 16))
    other = replace(EXPERIMENT, model=replace(STUDY.model, architecture=wider))
    with pytest.raises(CheckpointError, match="does not fit MDEQ"):
        run(trained("implicit", 2, other), data, tmp_path, pretrained)


def test_a_row_of_the_sweep_is_what_a_solve_of_so_many_evaluations_gives(data: Path, pretrained: Path) -> None:
    splits = Measure(sweep=5, batch_size=4, splits=("test", "val"))
    metrics, rows = measured(pretrained, splits, data, pretrained.parent / "measured")
    assert [(row["split"], row["step"]) for row in rows] == [(s, k) for s in ("test", "val") for k in range(1, 6)]
    for row in rows[:5]:
        stop = replace(MEASURE, stop=StopConfig(max_steps=int(numbers([row], "step")[0])), sweep=1, batch_size=4)
        alone, _ = evaluate(load(pretrained), STUDY.task, stop, data)
        assert row["top1"] == alone["top1"]
        assert row["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert row["residual"] == pytest.approx(alone["residual"], rel=1e-4)
    assert metrics["test.loss_last"] == rows[4]["loss"]
    assert metrics["val.top1_last"] == rows[9]["top1"]


def test_of_the_training_set_so_many_images_are_measured_as_they_are(data: Path, pretrained: Path) -> None:
    one = Measure(sweep=5, splits=("train",), training_images=1)
    metrics, _ = measured(pretrained, one, data, pretrained.parent / "measured")
    network = load(pretrained)
    batch = next(batches_in_order(STUDY.task, data, "train", 1, multiple=network.size.multiple))
    with torch.no_grad():
        expected = loss(STUDY.task, network(batch.images, stop=deq.Stop(5, None)).logits, batch)
    assert metrics["train.loss_last"] == pytest.approx(float(expected), rel=1e-5)


def test_sets_are_measured_where_the_manifest_says(data: Path, pretrained: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {"root": str(data)})
    splits = Measure(sweep=5, batch_size=4)
    found = [measured(pretrained, splits, folder, tmp_path / "out") for folder in (data, tmp_path)]
    assert found[0] == found[1]


def test_a_sweep_that_ends_before_the_evaluations_of_training_is_refused(data: Path, pretrained: Path) -> None:
    with pytest.raises(ValueError, match=r"measure\.sweep: expected at least the 4 evaluations of"):
        measured(pretrained, Measure(sweep=3), data, pretrained.parent / "short")


def test_a_network_of_other_classes_is_not_measured(data: Path, tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", MDEQ(STUDY.model.architecture.with_classes(9), STUDY.model.equilibrium()))
    with pytest.raises(ConfigError, match=r"expected a head for Classification with 10 classes, .*, got .* with 9"):
        measured(tmp_path, Measure(sweep=5), data, tmp_path / "out")


SLOPES: dict[tuple[int, Method], list[float]] = {
    (2, "implicit"): [0.0, 0.0],
    (2, "unrolled"): [-0.01, -0.03],
    (3, "implicit"): [0.0, 0.02],
    (3, "unrolled"): [-0.1, -0.1],
}


def told(folder: Path, longer: tuple[int, ...]) -> Page:
    """The report of networks whose accuracy is 0.5 + step x a slope, one a seed; twice the slope on training images."""
    for (steps, method), slopes in SLOPES.items():
        for seed, slope in enumerate(slopes):
            rows = [
                {"split": split, "step": k, "loss": 1.0, "top1": 0.5 + times * slope * k, "residual": 1 / k}
                for split, times in (("test", 1), ("train", 2))
                for k in range(1, 6)
            ]
            write_rows(folder / "evaluate" / f"{method}-{steps}-{seed}" / "steps.csv", rows)
    measured = replace(STUDY.measure, splits=("test", "train"))
    study = replace(STUDY, seeds=(0, 1), longer=longer, measure=measured)
    write_json(folder / "params.yaml", config.plain({"stability": study}))  # JSON is YAML
    return page(Section(folder / "params.yaml", "stability"), Results(folder, "stability"))


def test_a_change_is_taken_within_a_seed_and_then_averaged(tmp_path: Path) -> None:
    report = told(tmp_path, (1, 7))
    values = report.metrics
    assert values["test.unrolled-2.top1"] == pytest.approx(0.46)
    assert values["test.unrolled-2.top1_at_5_change"] == pytest.approx(-0.06)
    assert values["test.unrolled-2.top1_at_5_change_std"] == pytest.approx(0.0424, abs=1e-4)
    assert values["test.unrolled-3.top1_at_4_change"] == pytest.approx(-0.1)
    assert values["test.implicit-3.residual_at_5"] == pytest.approx(0.2)
    assert "test.implicit-2.top1_at_9_change" not in values
    assert values["train.unrolled-3.top1_at_5_change"] == pytest.approx(-0.4)
    lines = report.parts[2].splitlines()
    assert "| 2 | unrolled | 0.460 ± 0.028 | -0.020 ± 0.014 |  | -0.060 ± 0.042 |" in lines[3]
    assert len({line.count("|") for line in lines}) == 1


def test_the_overview_repeats_what_the_report_wrote(tmp_path: Path) -> None:
    lines = overview(told(tmp_path, (1,)).metrics).splitlines()
    assert lines[0].startswith(
        "| N | gradient | images | top-1 accuracy at N | change at 5 | loss at N | change at 5 |"
    )
    assert [line.split(" | ")[:3] for line in lines[2:]] == [
        [f"| {steps}", gradient, images]
        for steps in (2, 3)
        for gradient in ("implicit gradient", "unrolled")
        for images in ("test", "training")
    ]
    assert lines[4].startswith(
        "| 2 | unrolled | test | 0.460 ± 0.028 | -0.060 ± 0.042 | 1.000 ± 0.000 | +0.000 ± 0.000 |"
    )


def test_the_figure_tells_every_network_and_its_change_from_n_on(tmp_path: Path) -> None:
    values, _, beyond, training, *_ = told(tmp_path, (1,)).figures["curves"].axes
    named = {str(line.get_label()): line for line in beyond.get_lines()}
    assert list(named) == [str(line.get_label()) for line in values.get_lines()]
    assert np.asarray(named["N = 3, unrolled"].get_ydata()) == pytest.approx([0, -0.1, -0.2])
    assert np.asarray(training.get_lines()[-1].get_ydata()) == pytest.approx([0, -0.2, -0.4])


def test_the_commands_lead_from_data_to_the_report(data: Path, tmp_path: Path) -> None:
    with SMOKE.open() as file:
        smoke = YAML(typ="safe", pure=True).load(file)["stability"]
    params = tmp_path / "params.yaml"
    with params.open("w") as file:
        YAML(typ="safe", pure=True).dump({"stability": {**smoke, "steps": [2]}}, file)
    common = ["--data", str(data), "--params", str(params)]
    scratch = ["--scratch", str(tmp_path / "scratch")]
    results = tmp_path / "results"
    main(["study", "stability-pretrain", "seed=0", "--out", str(results / "pretrain" / "0"), *common, *scratch])
    for method in ("implicit", "unrolled"):
        case, name = [f"method={method}", "steps=2", "seed=0"], f"{method}-2-0"
        start, model = (["--checkpoint", str(results / folder)] for folder in ("pretrain/0", f"train/{name}"))
        main(["study", "stability-train", *case, *start, "--out", str(results / "train" / name), *common, *scratch])
        main(["study", "stability-evaluate", *case, *model, "--out", str(results / "evaluate" / name), *common])
    page = ["--results", str(results), "--params", str(params)]
    main(["report", "stability", *page, "--out", str(results / "report")])
    assert "![curves](curves.svg)" in (results / "report" / "report.md").read_text()
    written = {"report.md", "metrics.json", "headline.json", "curves.svg", "curves.csv"}
    assert {path.name for path in (results / "report").glob("[!.]*")} == written
    assert not list((tmp_path / "scratch").glob("stability*"))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_a_study(profile: str) -> None:
    study: Stability = config.load(Stability, PROFILES[profile], "stability")
    assert study.methods == ("implicit", "unrolled")
