"""Models are trained unrolled at first and then through the equilibrium, and measured after every evaluation."""

import copy
import json
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.jobs import done
from tests.profiles import PAPER, PROFILES
from torch.optim.swa_utils import update_bn

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.checkpoints.checkpoint import CheckpointError, load_tensors
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.layer import ImplicitConfig, LayerConfig, StopConfig
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.data.images import write_image
from deq_core.experiment.options import Options
from deq_core.experiment.tables import read_rows
from deq_core.experiment.tracking.run import ignore
from deq_vision import load, save
from deq_vision.baselines.params import Linear
from deq_vision.cli import main
from deq_vision.commands.training import RECIPES, laid_over
from deq_vision.config import (
    Classification,
    Detection,
    Head,
    ModelConfig,
    Segmentation,
)
from deq_vision.data.mini.write import MiniSets
from deq_vision.data.mini.write_digits import MiniDigitsConfig
from deq_vision.data.mini.write_street import MiniStreetConfig
from deq_vision.data.scenes import SceneAugment
from deq_vision.data.transforms import CIFAR, IMAGENET, CropFlip
from deq_vision.detection.params import Detect
from deq_vision.evaluate import Evaluate, Windows, evaluate
from deq_vision.models.mdeq import MDEQ
from deq_vision.models.variants import MINI_DIGITS, MINI_STREET, VARIANTS
from deq_vision.params import (
    Classify,
    Experiment,
    JacobianPenalty,
    Pretraining,
    Recipe,
    Segment,
    Task,
)
from deq_vision.streaming.params import StreamEvaluate
from deq_vision.studies.scores import EVALUATE, Measurement
from deq_vision.studies.section import Continued, Vision
from deq_vision.studies.training_costs import VisionCosts
from deq_vision.tasks import batches_in_order, training_batches
from deq_vision.train import begin, objective, train

LAYER = LayerConfig(
    solver=deq.FixedPointIteration(),
    stop=StopConfig(max_steps=3),
    adjoint=ImplicitConfig(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=3)),
)
RECIPE = Recipe(
    steps=4,
    batch_size=4,
    optim=OptimConfig(lr=1e-3),
    pretraining=Pretraining(steps=2, depth=(1, 3)),
    every=Every(checkpoint=1),
)
TEN = Classification(channels=(8, 8), final=8, classes=10)
SMALL = replace(MINI_DIGITS, channels=(8, 8), expansion=1, head=TEN)
DIGITS = Experiment(
    task=Classify(data="cifar10", folder="digits", augment=CropFlip(padding=2, flip_chance=0.0), normalisation=CIFAR),
    model=ModelConfig(architecture=SMALL, layer=LAYER),
    recipe=RECIPE,
)
STREET = Experiment(
    task=Segment(labels="street", folder="street", augment=SceneAugment(crop=(32, 64)), normalisation=IMAGENET),
    model=ModelConfig(architecture=replace(SMALL, head=MINI_STREET.head), layer=LAYER),
    recipe=RECIPE,
)
SETS = MiniSets(
    digits=MiniDigitsConfig(train=20, val=5, test=7),
    street=MiniStreetConfig(height=32, width=64, train_streets=4, train_frames=1, val_streets=1, test_streets=1),
)
MEASURE = Evaluate(stop=StopConfig(max_steps=3), sweep=4, batch_size=5)
BATCH_RATE_DECAY = {
    "cifar-tiny": (128, 1e-3, 2.5e-6),
    "cifar-large": (128, 1e-3, 0.0),
    "cifar-large-reg": (96, 1e-3, 0.0),
    "imagenet-small": (128, 0.05, 5e-5),
    "imagenet-small-reg": (128, 0.04, 2e-5),
    "imagenet-large": (128, 0.05, 1e-4),
    "imagenet-large-reg": (128, 0.05, 1e-4),
    "imagenet-xl": (256, 0.05, 1e-4),
    "cityscapes-small": (12, 0.01, 2e-4),
    "cityscapes-large": (12, 0.01, 3e-4),
    "cityscapes-xl": (16, 0.01, 3e-4),
}
EQUILIBRIUM = DIGITS.model.equilibrium()
DETECT = Experiment(
    task=Detect(objects="street", folder="street", normalisation=IMAGENET),
    model=ModelConfig(architecture=replace(SMALL, head=Detection(channels=8, classes=3)), layer=LAYER),
    recipe=RECIPE,
)
EXPERIMENTS = {"digits": DIGITS, "street": STREET, "detect": DETECT}
STREAM = StreamEvaluate(budgets=(1,), converged=StopConfig(max_steps=2, tol=1e-3))
COSTS = VisionCosts(
    gradients={"phantom-1": deq.Phantom()},
    steps=(1, 2),
    solver=deq.FixedPointIteration(),
    repeats=1,
    batch_size=2,
    architecture=DIGITS.model.architecture,
    crop=(16, 16),
)
PROFILE = Vision(
    seeds=(0,),
    trained=("digits", "street"),
    fresh=("digits", "street"),
    continued=(),
    streamed=("street",),
    data=SETS,
    experiments=EXPERIMENTS,
    baselines={},
    evaluate={"digits": MEASURE, "street": MEASURE},
    stream={"street": STREAM},
    costs=COSTS,
)


def run(experiment: Experiment, data: Path, folder: Path, seed: int = 0) -> dict[str, float]:
    return train(experiment, seed=seed, data=data, out=folder / "out", scratch=folder / "scratch", log=ignore)


@pytest.mark.parametrize(
    ("experiment", "head", "complaint"),
    [
        (STREET, SMALL.head, "a task to segment needs Segmentation, got Classification"),
        (STREET, None, "a task to segment needs Segmentation, got None"),
        (STREET, Segmentation(classes=19), "the task has 8, got 19"),
        (DETECT, Detection(channels=8, classes=30), "the task has 3, got 30"),
        (DIGITS, Classification(channels=(8, 8), final=8, classes=9), "the task has 10, got 9"),
    ],
)
def test_a_head_that_is_not_the_tasks_is_refused_before_training(
    experiment: Experiment, head: Head | None, complaint: str
) -> None:
    architecture = replace(experiment.model.architecture, head=head)
    with pytest.raises(ValueError, match=complaint):
        replace(experiment, model=replace(experiment.model, architecture=architecture))


def folders(root: Path, classes: int) -> Path:
    """ImageNet's two splits below `root` with two images a class."""
    for split, number, image in product(("train", "val"), range(classes), range(2)):
        black = torch.zeros(3, 16, 16, dtype=torch.uint8)
        write_image(root / f"imagenet/{split}/n{number:08d}/{image}.png", black)
    return root


def photographs(classes: int) -> Experiment:
    """Classification of ImageNet's folders by a head with so many classes."""
    head = Classification(channels=(8, 8), final=8, classes=classes)
    model = ModelConfig(architecture=replace(SMALL, head=head), layer=LAYER)
    return Experiment(task=Classify(data="imagenet", normalisation=IMAGENET), model=model, recipe=RECIPE)


@pytest.mark.parametrize("there", [2, 4])
def test_another_number_of_classes_than_the_heads_is_refused_before_the_first_batch(there: int, tmp_path: Path) -> None:
    data = folders(tmp_path / "data", there)
    message = (
        rf"^model\.architecture\.head\.classes: expected Classification with {there} classes, those of "
        rf".*imagenet/train, got Classification with 3; set it to {there}, or task\.folder"
    )
    with pytest.raises(ConfigError, match=message):
        run(photographs(3), data, tmp_path)
    assert not (tmp_path / "scratch").exists()
    model = MDEQ(photographs(3).model.architecture, EQUILIBRIUM).eval()
    save(tmp_path / "trained" / "model.safetensors", model)
    message = (
        rf"trained: expected a head for Classification with {there} classes, those of .*imagenet/val, got "
        r"Classification with 3; choose the task and the folder"
    )
    with pytest.raises(ConfigError, match=message):
        done(EVALUATE, Measurement(task=photographs(3).task, evaluate=MEASURE), data=data, model=tmp_path / "trained")


def test_as_many_folders_as_the_head_has_classes_are_trained_on_and_measured(tmp_path: Path) -> None:
    data = folders(tmp_path / "data", 3)
    run(photographs(3), data, tmp_path)
    metrics, _ = evaluate(load(tmp_path / "out"), photographs(3).task, MEASURE, data)
    assert metrics["samples"] == 6


@pytest.mark.parametrize(
    ("task", "head", "message"),
    [
        (DIGITS.task, replace(TEN, classes=9), r"10 classes, those of task\.data cifar10, got .* with 9"),
        (STREET.task, Segmentation(classes=19), r"8 classes, those of task\.labels street, got .* with 19"),
        (DETECT.task, Detection(channels=8, classes=30), r"3 classes, those of task\.objects street, got .* with 30"),
        (STREET.task, TEN, "expected a head for Segmentation with 8 classes, .*, got Classification with 10"),
        (STREET.task, None, "expected a head for Segmentation .*, got a network without a head"),
    ],
)
def test_a_network_of_another_task_is_not_measured(task: Task, head: Head | None, message: str, data: Path) -> None:
    model = MDEQ(replace(SMALL, head=head), EQUILIBRIUM).eval()
    with pytest.raises(ConfigError, match=message):
        evaluate(model, task, MEASURE, data)


@pytest.mark.parametrize("name", ["digits", "detect"])
def test_averaged_weights_have_the_statistics_of_whole_passes(
    name: str, data: Path, tmp_path: Path, few_batches: int
) -> None:
    """Of stem, solve and head on the batches that come next, whatever else an update computes."""
    recipe = replace(RECIPE, steps=2, pretraining=None, ema=0.5, jacobian=JacobianPenalty(weight=1.0))
    experiment = replace(EXPERIMENTS[name], recipe=recipe)
    run(experiment, data, tmp_path)
    model = load(tmp_path / "out")
    batches = training_batches(experiment.task, recipe, data, 0, multiple=model.size.multiple)(recipe.steps)
    expected = copy.deepcopy(model)
    update_bn((batch.images for batch in islice(batches, few_batches)), expected)
    for buffer, own in expected.named_buffers():
        assert torch.allclose(model.get_buffer(buffer), own, rtol=1e-4, atol=1e-6), buffer


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_training_ends_with_a_model_that_loads_and_is_measured(name: str, data: Path, tmp_path: Path) -> None:
    experiment = EXPERIMENTS[name]
    newest = run(experiment, data, tmp_path)
    headline = {"digits": "top1", "street": "miou", "detect": "ap50"}[name]
    assert {"task_loss", "accuracy", "residual", "val_loss", f"val_{headline}", "val_residual"} <= newest.keys()
    metrics, rows = evaluate(load(tmp_path / "out"), experiment.task, MEASURE, data)
    assert metrics["samples"] == {"digits": 7, "street": 1, "detect": 3}[name]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert metrics[headline] == rows[2][headline]
    assert metrics["loss"] == pytest.approx(rows[2]["loss"], rel=1e-5)


@pytest.fixture(scope="module")
def trained_digits(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    run(DIGITS, data, folder)
    return folder / "out"


def test_a_model_of_another_task_lends_all_but_its_head(
    trained_digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load_tensors(trained_digits / "model.safetensors")
    model = MDEQ(STREET.model.architecture, STREET.model.equilibrium())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    begin(model, trained_digits)
    for name, value in model.state_dict().items():
        assert value.equal(before[name] if name.startswith("head.") else found[name]), name
    assert "its head has other shapes, so the new head begins with random weights" in capsys.readouterr().err


def test_a_model_of_the_same_task_lends_its_head_too(trained_digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = MDEQ(DIGITS.model.architecture, DIGITS.model.equilibrium())
    begin(model, trained_digits)
    found = load_tensors(trained_digits / "model.safetensors")
    assert all(value.equal(found[name]) for name, value in model.state_dict().items())
    assert "head" not in capsys.readouterr().err


def test_a_start_of_another_body_is_refused(trained_digits: Path) -> None:
    wider = replace(SMALL, channels=(8, 16))
    with pytest.raises(CheckpointError, match=r"does not fit MDEQ:(?s:.*)cell\."):
        begin(MDEQ(wider, DIGITS.model.equilibrium()), trained_digits)


def test_images_of_many_sizes_are_tested_by_their_middle(tmp_path: Path) -> None:
    for height, width in ((40, 60), (50, 30)):
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        image[:, height // 2, width // 2] = 255
        write_image(tmp_path / f"imagenet/val/n01440764/{height}.JPEG", image)
    task = Classify(data="imagenet", test_crop=(32, 24), normalisation=IMAGENET)
    (batch,) = batches_in_order(task, tmp_path, "test", 2, multiple=1)
    assert batch.images.shape == (2, 3, 24, 24)
    for image in batch.images:
        row, column = divmod(int(image.sum(dim=0).argmax()), 24)
        assert abs(row - 12) <= 1
        assert abs(column - 12) <= 1
    with pytest.raises(ValueError, match="a batch needs samples of one size"):
        list(batches_in_order(replace(task, test_crop=None), tmp_path, "test", 2, multiple=1))


def test_one_window_of_the_whole_image_changes_nothing(data: Path) -> None:
    torch.manual_seed(0)
    model = MDEQ(STREET.model.architecture, STREET.model.equilibrium()).eval()
    plain, _ = evaluate(model, STREET.task, MEASURE, data)
    once, rows = evaluate(model, STREET.task, replace(MEASURE, windows=Windows(window=(32, 64))), data)
    assert once.pop("loss") == pytest.approx(plain["loss"], rel=1e-2)  # the training's loss aligns corners
    assert once == {name: value for name, value in plain.items() if name != "loss"}
    several = Windows(window=(20, 36), scales=(0.75, 1.25), mirror=True)  # no multiples of what the branches need
    views, again = evaluate(model, STREET.task, replace(MEASURE, windows=several), data)
    assert again == rows, "the sweep sees whole images"
    assert views["loss"] != pytest.approx(plain["loss"], rel=1e-4)
    assert views["residual"] == plain["residual"]


def test_batch_norms_that_share_their_statistics_keep_their_names() -> None:
    model = MDEQ(SMALL, DIGITS.model.equilibrium())
    names = model.state_dict().keys()
    assert torch.nn.SyncBatchNorm.convert_sync_batchnorm(model) is model
    assert model.state_dict().keys() == names
    assert any(isinstance(part, torch.nn.SyncBatchNorm) for part in model.modules())


def test_the_same_seed_gives_the_same_weights_and_another_one_others(
    trained_digits: Path, data: Path, tmp_path: Path
) -> None:
    weights = load_tensors(trained_digits / "model.safetensors")
    same, other = (run_and_load(data, tmp_path / str(seed), seed) for seed in (0, 1))
    assert all(weights[key].equal(tensor) for key, tensor in same.items())
    assert not all(weights[key].equal(tensor) for key, tensor in other.items())


def run_and_load(data: Path, folder: Path, seed: int) -> dict[str, torch.Tensor]:
    run(DIGITS, data, folder, seed)
    return load_tensors(folder / "out" / "model.safetensors")


def losses(recipe: Recipe, step: int, data: Path) -> tuple[dict[str, Any], float]:
    """Parts and total of update `step` on the first test images, from the same weights."""
    torch.manual_seed(0)
    model = MDEQ(DIGITS.model.architecture, DIGITS.model.equilibrium())
    batch = next(batches_in_order(DIGITS.task, data, "test", 7, multiple=1))
    torch.manual_seed(1)
    found = objective(DIGITS.task, recipe, seed=0)(model, (step, batch))
    return dict(found.parts), float(found.total.detach())


def test_the_penalty_is_added_with_its_weight_and_ends_when_it_should(data: Path) -> None:
    plain, total = losses(RECIPE, 3, data)
    assert "jacobian" not in plain
    for step, weight in ((1, 0.5), (2, 2.0), (4, 3.0), (9, 0.0)):
        penalty = JacobianPenalty(weight=2.0, pretraining_weight=0.5, growth=1.0, growth_every=2, until=9)
        parts, total = losses(replace(RECIPE, jacobian=penalty), step, data)
        assert total == pytest.approx(float(parts["task_loss"]) + weight * float(parts["jacobian"]), rel=1e-5)
        assert (float(parts["jacobian"]) > 0) == (weight > 0)


def test_a_penalty_of_chance_zero_is_never_drawn(data: Path) -> None:
    parts, _ = losses(replace(RECIPE, jacobian=JacobianPenalty(weight=2.0, chance=0.0)), 3, data)
    assert parts["jacobian"] == 0.0


@pytest.mark.usefixtures("tracking_database")
@pytest.mark.parametrize("task", ["classify", "segment", "detect"])
def test_options_train_without_a_file_as_a_template_does_with_one(
    task: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(data), "--steps", "1", "--batch-size", "2", "--max-steps", "2", "--adjoint", "jacobian_free"]
    main(["train", "--task", task, "--out", "plain", *given])
    capsys.readouterr()
    main(["train", "--task", task, "--template"])
    Path("mine.yaml").write_text(capsys.readouterr().out)
    main(["train", "--params", "mine.yaml", "--out", "by-file", *given])
    plain, by_file = (load_tensors(Path(name, "model.safetensors")) for name in ("plain", "by-file"))
    assert all(torch.equal(plain[name], by_file[name]) for name in plain)
    loaded = load("plain").equilibrium
    assert (loaded.stop.max_steps, loaded.eval_stop, loaded.adjoint) == (2, None, deq.JacobianFree())


def test_a_network_by_name_keeps_the_heads_classes_and_must_suit_the_task() -> None:
    settings = config.load(Experiment, RECIPES / "segment.yaml")
    found = laid_over(settings, Options(network="cityscapes-small")).model.architecture
    assert found == VARIANTS["cityscapes-small"].architecture.with_classes(8)
    with pytest.raises(ConfigError, match="a task to segment needs Segmentation"):
        laid_over(settings, Options(network="cifar-tiny"))
    with pytest.raises(ConfigError, match=r"network: expected one of cifar-tiny, .*, got 'resnet'"):
        laid_over(settings, Options(network="resnet"))


@pytest.mark.usefixtures("tracking_database")
def test_the_commands_train_and_measure_from_a_file(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text(json.dumps({"vision": config.plain(PROFILE)}))
    main(["train", "--experiment", "digits", "--data", str(data), "--out", "out"])
    assert list((tmp_path / ".scratch").iterdir()) == []
    main(
        [
            "study",
            "evaluate",
            "experiment=digits",
            "seed=0",
            "--checkpoint",
            "out",
            "--data",
            str(data),
            "--out",
            "measured",
        ]
    )
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    metrics = json.loads((tmp_path / "measured" / "metrics.json").read_text())
    assert last["top1"] == pytest.approx(metrics["top1"], abs=1e-6)
    assert len(read_rows(tmp_path / "measured" / "steps.csv")) == MEASURE.sweep
    main(["train", "--experiment", "street", "--data", str(data), "--out", "street", "--start", "out"])
    assert "its head has other shapes, so the new head begins with random weights" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"elsewhere: no such checkpoint"):
        main(["train", "--experiment", "street", "--data", str(data), "--out", "other", "--start", "elsewhere"])


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: replace(RECIPE, sync_batch_norm=True), "sync_batch_norm needs device cuda, got cpu"),
        (lambda: Windows(scales=()), "windows: expected sides"),
        (
            lambda: replace(PROFILE, evaluate={**PROFILE.evaluate, "digits": replace(MEASURE, windows=Windows())}),
            r"evaluate\.digits\.windows: only for segmentation",
        ),
        (lambda: Segment(labels="street", normalisation=CIFAR, class_weights=True), "only known for labels cityscapes"),
        (lambda: replace(PROFILE, evaluate={}), "trained: not in `evaluate`: digits, street"),
        (lambda: replace(PROFILE, trained=("digits", "streets")), "trained: not in `experiments`: streets"),
        (lambda: replace(PROFILE, streamed=("detect",)), "streamed: not in `trained`: detect"),
        (lambda: replace(PROFILE, stream={}), "streamed: not in `stream`: street"),
        (lambda: replace(PROFILE, streamed=("digits",), stream={"digits": STREAM}), "digits is to classify"),
        (lambda: Classify(data="imagenet", test_crop=(24, 32), normalisation=IMAGENET), "shorter side >= crop"),
        (lambda: replace(PROFILE, seeds=()), "seeds: expected at least one"),
        (
            lambda: replace(PROFILE, baselines={"street": {"a": Linear()}}),
            r"baselines\.street\.a: linear is not a baseline for tasks to segment",
        ),
        (
            lambda: replace(
                PROFILE, fresh=("digits",), continued=2 * (Continued(experiment="street", start="digits"),)
            ),
            "each once, got .*street.*street",
        ),
        (lambda: replace(PROFILE, fresh=("digits",)), "fresh and continued: expected the experiments of trained"),
        (
            lambda: replace(PROFILE, continued=(Continued(experiment="street", start="digits"),)),
            "each once, got .*street.*street",
        ),
        (
            lambda: replace(PROFILE, fresh=("digits",), continued=(Continued(experiment="street", start="street"),)),
            r"continued\[0\]\.start: expected one of fresh .*, got street",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


def test_the_released_recipes_are_for_the_released_models() -> None:
    """Sizes, solvers and tolerances of the profile are those of `build`; updates and rates are the release's."""
    paper = config.check(Vision, PAPER, "vision")
    released = {name: variant for name, variant in VARIANTS.items() if variant.equilibrium.numerics == "released"}
    assert paper.experiments.keys() == released.keys()
    for name, variant in released.items():
        experiment = paper.experiments[name]
        assert experiment.model.architecture == variant.architecture, name
        assert experiment.model.equilibrium() == variant.equilibrium, name
        found = (experiment.recipe.batch_size, experiment.recipe.optim.lr, experiment.recipe.optim.weight_decay)
        assert found == BATCH_RATE_DECAY[name], name
        assert (experiment.recipe.jacobian is not None) == name.endswith("reg"), name
        assert experiment.recipe.sync_batch_norm == name.startswith("cityscapes"), name
        assert paper.evaluate[name].stop.build() == variant.equilibrium.stop, name
    for name in paper.streamed:
        assert paper.stream[name].converged.build() == released[name].equilibrium.stop, name


def test_the_published_cityscapes_is_measured_where_its_labels_are_published() -> None:
    paper = config.check(Vision, PAPER, "vision")
    segmented = [name for name, one in paper.experiments.items() if isinstance(one.task, Segment)]
    for measured in (paper.evaluate, paper.stream, paper.paths.measure):
        assert {measured[name].split for name in segmented} == {"val"}


@pytest.mark.parametrize("profile", ["smoke", "paper"])
def test_what_continues_another_experiment_has_its_weights_but_for_the_head(profile: str) -> None:
    vision = config.check(Vision, PROFILES[profile], "vision")
    assert vision.continued
    for pair in vision.continued:
        with torch.device("meta"):
            bodies = [
                {
                    key: value.shape
                    for key, value in MDEQ(model.architecture, model.equilibrium()).state_dict().items()
                    if not key.startswith("head.")
                }
                for model in (vision.experiments[name].model for name in (pair.experiment, pair.start))
            ]
        assert bodies[0] == bodies[1], pair
