"""Every field of an experiment or a measurement changes what is trained or measured, or its change is refused."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.changes import OF_A_LAYER, OF_THE_LOOP, kinds, lost, members, note_solves, watched
from tests.jobs import done
from tests.profiles import PROFILES
from tests.vision.pictures import shorten

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.config.layer import ImplicitConfig, LayerConfig, Solver, StopConfig
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.config.recipe import JacobianPenalty, Pretraining
from deq_core.experiment.tracking.run import ignore
from deq_vision.config import Classification, Detection, Head, ModelConfig, Segmentation
from deq_vision.data.mini.write_digits import MiniDigitsConfig, write_digits
from deq_vision.data.mini.write_street import MiniStreetConfig, write_street
from deq_vision.data.scenes import SceneAugment
from deq_vision.data.transforms import CIFAR, IMAGENET, CropFlip, ResizedCrop
from deq_vision.detection.decoding import Detections, detect
from deq_vision.detection.params import Detect
from deq_vision.evaluate import Evaluate, Windows
from deq_vision.loss import HardPixels
from deq_vision.models.variants import MINI_DIGITS
from deq_vision.params import Classify, Experiment, Recipe, Segment, Task
from deq_vision.studies.scores import EVALUATE, Measurement
from deq_vision.studies.section import Vision
from deq_vision.studies.stability import Stability
from deq_vision.train import train

SHORT = StopConfig(max_steps=3, tol=1e-3)
SMALL = replace(MINI_DIGITS, channels=(4, 4), groups=2, expansion=1, dropout=0.2)
LAYER = LayerConfig(
    solver=deq.Anderson(window=2),
    stop=SHORT,
    eval_stop=replace(SHORT, max_steps=2),
    adjoint=ImplicitConfig(solver=deq.Anderson(window=2), stop=SHORT),
)
RECIPE = Recipe(
    steps=5,
    batch_size=2,
    optim=OptimConfig(lr=1e-3, clip=0.5),
    pretraining=Pretraining(steps=1, depth=(1, 3)),
    jacobian=JacobianPenalty(weight=1.0, chance=0.75, growth=0.5, growth_every=2, pretraining_weight=0.5),
    jitter=(0, 1),
    ema=0.5,
    every=Every(checkpoint=5, evaluate=5),
)
SCENE = SceneAugment(long_side=64, scale=(0.8, 1.3), crop=(32, 48))
HEADS: dict[str, Head] = {
    "digits": Classification(channels=(2, 2), final=4, classes=10),
    "street": Segmentation(classes=8),
    "detect": Detection(channels=4, classes=3),
}
RESIZED = ResizedCrop(size=32, ratio=(0.5, 2.0), tries=2)
TASKS: dict[str, Task] = {
    "digits": Classify(data="cifar10", folder="digits", augment=CropFlip(padding=2), normalisation=CIFAR),
    "street": Segment(
        labels="street",
        folder="street",
        augment=SCENE,
        normalisation=IMAGENET,
        hard=HardPixels(probability=0.1, at_least=500),
    ),
    "detect": Detect(objects="street", folder="street", augment=SCENE, normalisation=IMAGENET),
}


PROTOCOLS = {
    "digits": Evaluate(stop=SHORT, sweep=2, batch_size=2),
    "street": Evaluate(stop=SHORT, sweep=2, batch_size=2, windows=Windows(window=(32, 48), scales=(1.0, 0.5))),
}


def experiment(name: str) -> Experiment:
    recipe = replace(RECIPE, steps=2, pretraining=None, jacobian=None, jitter=(0, 0), ema=None)
    size = replace(SMALL, head=HEADS[name])
    return Experiment(task=TASKS[name], model=ModelConfig(architecture=size, layer=LAYER), recipe=recipe)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    write_digits(root / "digits", MiniDigitsConfig(train=8, val=2, test=3))
    street = MiniStreetConfig(height=32, width=64, train_streets=2, train_frames=2, val_streets=1, test_streets=2)
    write_street(root / "street", street)
    shorten(root / "street")
    return root


@pytest.fixture
def trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_batches: int
) -> Iterator[Callable[[Experiment], object]]:
    """What a training leaves: its history and weights, the choices of its solves, and what was detected."""
    noted = note_solves(monkeypatch)

    def outcome(experiment: Experiment) -> object:
        noted.clear()
        shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
        out = tmp_path / "out"
        train(experiment, seed=2, data=data, out=out, scratch=tmp_path / "scratch", log=ignore)
        return (out / "history.csv").read_text(), (out / "model.safetensors").read_bytes(), sorted(noted)

    def detect_and_note(*arguments: Any) -> list[Detections]:
        found = detect(*arguments)
        noted.append(f"found {[(len(one), float(one.boxes.sum()), float(one.scores.sum())) for one in found]}")
        return found

    monkeypatch.setattr("deq_vision.detection.task.detect", detect_and_note)
    watched.folders = [data, tmp_path / "scratch"]
    yield outcome
    watched.folders = []


def test_every_field_of_another_augmentation_changes_the_training(trained: Callable[[Experiment], object]) -> None:
    one = experiment("digits")
    task = one.task
    assert isinstance(task, Classify)
    assert lost(RESIZED, lambda other: trained(replace(one, task=replace(task, augment=other)))) == []


@pytest.mark.parametrize("name", ["digits", "street"])
def test_every_field_of_a_measurement_changes_what_is_measured(
    name: str,
    trained: Callable[[Experiment], object],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = experiment(name)
    trained(one)
    noted = note_solves(monkeypatch)

    def tables(protocol: Evaluate) -> object:
        noted.clear()
        settings = Measurement(task=one.task, evaluate=protocol)
        metrics, job = done(EVALUATE, settings, data=data, model=tmp_path / "out")
        return metrics, dict(job.tables), len(noted)

    assert lost(PROTOCOLS[name], tables, handed_on=["stop"]) == []


@pytest.mark.parametrize("profile", PROFILES)
def test_every_kind_of_section_of_a_profile_is_among_these(profile: str) -> None:
    section: Vision = config.check(Vision, PROFILES[profile], "vision")
    stability: Stability = config.check(Stability, PROFILES[profile], "stability")
    found = kinds(section.experiments, section.evaluate, stability.model, stability.training, stability.pretraining)
    known = kinds([experiment(name) for name in TASKS], RECIPE, RESIZED, PROTOCOLS)
    assert found <= known | set(members(Solver))


def test_every_field_of_a_recipe_changes_the_training(trained: Callable[[Experiment], object]) -> None:
    street = experiment("street")
    assert lost(RECIPE, lambda one: trained(replace(street, recipe=one)), but=OF_THE_LOOP) == []


def test_every_field_of_a_model_changes_its_training(trained: Callable[[Experiment], object]) -> None:
    digits = experiment("digits")
    assert lost(digits.model, lambda one: trained(replace(digits, model=one)), handed_on=OF_A_LAYER) == []


@pytest.mark.parametrize("name", TASKS)
def test_every_field_of_a_task_changes_the_training(name: str, trained: Callable[[Experiment], object]) -> None:
    """Segmentation shows it of the fields of augmentation and normalisation that all tasks are given."""
    one, shared = experiment(name), () if name == "street" else ("augment", "normalisation")
    assert lost(one.task, lambda task: trained(replace(one, task=task)), handed_on=shared) == []


def test_the_share_below_which_an_object_is_cut_away_changes_the_training(
    trained: Callable[[Experiment], object],
) -> None:
    one = experiment("detect")
    tasks = (replace(one.task, augment=replace(SCENE, least_share=share)) for share in (0.0, 1.0))
    first, second = (trained(replace(one, task=task)) for task in tasks)
    assert first != second
