"""A value that is not a number is never a right one, and ends a command in a sentence that names the first image."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.vision.pictures import as_frames, scene, viewer
from tests.vision.test_stability import STUDY
from tests.vision.test_training import DETECT, DIGITS, MEASURE, SETS, STREAM, STREET
from torch import Tensor, nn

from deq_core.experiment.data.images import write_image
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.media import video
from deq_core.experiment.study.stage import Job, Stage, measured
from deq_core.experiment.tables import read_rows
from deq_core.experiment.tracking.run import ignore
from deq_vision import MDEQ, load, save
from deq_vision.data.mini.write_digits import write_digits
from deq_vision.data.mini.write_street import write_street
from deq_vision.data.sets.cifar import Cifar10
from deq_vision.demo.images import run
from deq_vision.demo.overlay import with_classes
from deq_vision.demo.video import StreamConfig, write_stream
from deq_vision.detection.decoding import Decoding, detect
from deq_vision.detection.metrics import Found
from deq_vision.detection.params import Detect
from deq_vision.finite import NO_CLASS, argmax_class, require_finite
from deq_vision.loss import HardPixels, segmentation_loss
from deq_vision.metrics import confusion, correct
from deq_vision.params import Classify, Experiment, Segment
from deq_vision.studies import scores, stability
from deq_vision.studies.streaming import STREAM as STREAMING
from deq_vision.studies.streaming import Streaming, Trained
from deq_vision.tasks import batches_in_order, predicted_classes, training_metric
from deq_vision.train import validation

WRONG = (torch.nan, torch.inf)


# Values


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("k", [1, 5])
def test_a_logit_that_is_no_number_is_never_right(value: float, k: int) -> None:
    logits, labels = torch.randn(4, 10), torch.tensor([0, 3, 9, 5])
    logits[range(4), labels] = 9.0
    logits[0] = value
    logits[1, 3] = value
    logits[2, 0] = value  # of another class
    assert correct(logits, labels, k).tolist() == [False, False, False, True]
    assert argmax_class(logits).tolist() == [NO_CLASS, NO_CLASS, NO_CLASS, 5]


def test_a_class_that_is_ruled_out_does_not_make_a_sample_wrong() -> None:
    logits = torch.tensor([[-torch.inf, 1.0, 0.0], [-torch.inf, -torch.inf, -torch.inf]])
    assert correct(logits, torch.tensor([1, 1])).tolist() == [True, False]
    assert argmax_class(logits).tolist() == [1, NO_CLASS]


@pytest.mark.parametrize("value", WRONG)
def test_pixels_around_a_value_that_is_no_number_are_of_no_class(value: float) -> None:
    logits, labels = torch.zeros(1, 3, 4, 8), torch.zeros(1, 16, 32, dtype=torch.long)
    logits[:, 2] = 1.0
    logits[0, 1, :, :2] = value
    predicted = predicted_classes(logits, labels)
    assert (predicted[:, :, :8] == NO_CLASS).all()
    assert (predicted[:, :, 16:] == 2).all()
    with pytest.raises(ValueError, match=r"predictions must be from 0 to 2 where they are measured, got -1 to 2"):
        confusion(predicted, labels, 3)
    labels[:, :, :16] = 255
    assert confusion(predicted, labels, 3)[0, 2] == 16 * 16, "what is not measured may be anything"


@pytest.mark.parametrize("value", WRONG)
def test_predictions_that_are_no_numbers_are_refused_where_they_are_measured(value: float) -> None:
    predicted, labels = torch.tensor([value, 1.0]), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"predictions must be from 0 to 2 .*, got NaN or infinity"):
        confusion(predicted, labels, 3)
    assert confusion(predicted, torch.tensor([255, 1]), 3).sum() == 1


def test_a_pixel_of_no_class_has_no_colour() -> None:
    image = torch.full((3, 1, 2), 100, dtype=torch.uint8)
    drawn = with_classes(image, torch.tensor([[NO_CLASS, 0]]), [(200, 0, 0), (0, 0, 200)])
    assert drawn[:, 0].T.tolist() == [[100, 100, 100], [150, 50, 50]]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("place", range(6))
def test_a_cell_that_holds_no_number_finds_nothing_and_hides_nothing(value: float, place: int) -> None:
    maps = torch.full((1, 6, 4, 4), -20.0)
    maps[:, 2:] = 0.0
    maps[0, 0, 1, 2] = 5.0
    (alone,) = detect(maps, [(16, 16)], 4, Decoding(candidates=1))
    maps[0, 0, 3, 3] = 9.0
    maps[0, place, 3, 3] = value
    (found,) = detect(maps, [(16, 16)], 4, Decoding(candidates=1))
    assert found.boxes.tolist() == alone.boxes.tolist() == [[6.0, 2.0, 10.0, 6.0]]
    assert torch.equal(found.scores, alone.scores)


@pytest.mark.parametrize("value", WRONG)
def test_boxes_and_scores_that_are_no_numbers_are_not_measured(value: float) -> None:
    boxes, scores, kinds = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([0.5]), torch.tensor([0])
    Found(boxes, scores, kinds)
    for spoilt in ((boxes * value, scores, kinds), (boxes, scores * value, kinds)):
        with pytest.raises(ValueError, match="boxes and scores must be finite"):
            Found(*spoilt)


@pytest.mark.parametrize("at_least", [1, 100])
def test_pixels_that_are_no_numbers_are_not_left_out_of_the_loss_as_sure_ones(at_least: int) -> None:
    logits, labels = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    hard = HardPixels(at_least=at_least)
    assert segmentation_loss(logits, labels, hard=hard).isfinite()
    logits[0, :, 1, 1] = torch.nan
    assert segmentation_loss(logits, labels, hard=hard).isnan()
    assert segmentation_loss(torch.full_like(logits, torch.nan), labels, hard=hard).isnan()


def test_the_first_image_and_what_of_it_is_no_number_are_named() -> None:
    outputs, residual = torch.zeros(3, 2, 5), torch.zeros(3)
    require_finite(outputs, residual, ["a", "b", "c"])
    outputs[2, 1, 4] = torch.nan
    with pytest.raises(NonFiniteError, match=r"^c: the network's output is not finite"):
        require_finite(outputs, residual, ["a", "b", "c"])
    residual[1] = torch.inf
    with pytest.raises(NonFiniteError, match=r"^b: the network's residual is not finite"):
        require_finite(outputs, residual, ["a", "b", "c"])


# Commands


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_digits(root / "digits", SETS.digits)
    write_street(root / "street", replace(SETS.street, test_streets=2))
    return root


Spoil = Callable[[int], None]


@pytest.fixture(params=["output", "residual"])
def spoil(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Lets networks solve so many times before they give no numbers: in the head, or in the solve itself."""

    def after(solves: int) -> None:
        count, inject = 0, MDEQ.inject

        def spoilt(self: MDEQ, images: Tensor) -> object:
            nonlocal count
            count += 1
            if count > solves and request.param == "output":
                assert self.head is not None
                self.head.register_forward_hook(no_numbers)
            return inject(self, images * torch.nan if count > solves and request.param == "residual" else images)

        monkeypatch.setattr(MDEQ, "inject", spoilt)

    return after


def no_numbers(head: nn.Module, given: object, found: Tensor) -> Tensor:
    return found * torch.nan


def saved(experiment: Experiment, folder: Path) -> Path:
    torch.manual_seed(0)
    save(folder / "model.safetensors", MDEQ(experiment.model.architecture, experiment.model.equilibrium()).eval())
    return folder


def said(name: str, before: str) -> str:
    """The whole sentence, as a pattern."""
    advice = "its weights or its solve diverged; take another checkpoint, solver or precision"
    return rf"^{name}: the network's (output|residual) is not finite: {advice}; {before}$"


def case(stage: Stage[Any, Any], settings: object, data: Path, model: Path, out: Path) -> None:
    """Runs and writes one case of a stage."""
    job = Job(case=Trained("any", 0), settings=settings, data=data, model=model, out=out, scratch=out, log=ignore)
    measured(stage, job)


@pytest.mark.parametrize("experiment", [DIGITS, STREET, DETECT])
def test_an_evaluation_names_the_first_image_and_keeps_what_was_measured(
    data: Path, tmp_path: Path, spoil: Spoil, experiment: Experiment
) -> None:
    task, out = experiment.task, tmp_path / "out"
    (_, second, *_) = (name for batch in batches_in_order(task, data, "test", 1, multiple=8) for name in batch.names)
    model = saved(experiment, tmp_path / "model")
    spoil(2)  # the solve and the sweep of one image
    before = f"what was measured before it is in {out}-partial"
    settings = scores.Measurement(task=task, evaluate=replace(MEASURE, batch_size=1))
    with pytest.raises(NonFiniteError, match=said(second, before)):
        case(scores.EVALUATE, settings, data, model, out)
    assert not out.exists()
    assert [row["samples"] for row in read_rows(tmp_path / "out-partial" / "score.csv")] == [1]
    assert [row["step"] for row in read_rows(tmp_path / "out-partial" / "steps.csv")] == [1, 2, 3, 4]


def test_an_evaluation_that_measured_nothing_leaves_nothing(data: Path, tmp_path: Path, spoil: Spoil) -> None:
    model = saved(DIGITS, tmp_path / "model")
    spoil(0)
    settings = scores.Measurement(task=DIGITS.task, evaluate=MEASURE)
    with pytest.raises(NonFiniteError, match=r"another checkpoint, solver or precision$"):
        case(scores.EVALUATE, settings, data, model, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_sweep_counts_a_batch_at_all_evaluations_or_at_none(data: Path, tmp_path: Path, spoil: Spoil) -> None:
    model = saved(DIGITS, tmp_path / "model")
    assert isinstance(DIGITS.task, Classify)
    spoil(4)  # the seven images of the test split, two at a time, and then those of the validation split
    name = Cifar10(data / "digits", "val")[0].name
    measure = stability.Measure(sweep=3, batch_size=2, splits=("test", "val"))
    settings = stability.Measurement(task=DIGITS.task, measure=measure, paths=STUDY.paths)
    with pytest.raises(NonFiniteError, match=rf"^{name}, after 1 evaluations: .*; what was measured before it is in "):
        case(stability.EVALUATE, settings, data, model, tmp_path / "out")
    rows = read_rows(tmp_path / "out-partial" / "steps.csv")
    assert [(row["split"], row["step"]) for row in rows] == [("test", 1), ("test", 2), ("test", 3)]


@pytest.mark.parametrize("experiment", [STREET, DETECT])
def test_streams_are_measured_up_to_the_frame_that_is_named(
    data: Path, tmp_path: Path, spoil: Spoil, experiment: Experiment
) -> None:
    task, out = experiment.task, tmp_path / "out"
    assert isinstance(task, Segment | Detect)
    model = saved(experiment, tmp_path / "model")
    spoil(3 * 4 + 1)  # four frames in each of the three runs, and the fifth in the first
    with pytest.raises(
        NonFiniteError, match=r", frame 5, warm 1: .*; what was measured before it is in .*/out-partial$"
    ):
        case(STREAMING, Streaming(task=task, stream=STREAM), data, model, out)
    assert not out.exists()
    summary = read_rows(tmp_path / "out-partial" / "summary.csv")
    assert [row["mode"] for row in summary] == ["converged", "warm", "cold"]
    frames = read_rows(tmp_path / "out-partial" / "frames.csv")
    assert [sum(row["mode"] == mode for row in frames) for mode in ("converged", "warm", "cold")] == [5, 4, 4]


@pytest.mark.parametrize("task", ["segment", "detect", "classify"])
def test_a_demo_keeps_the_images_before_the_one_that_is_named(tmp_path: Path, spoil: Spoil, task: str) -> None:
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path, picture in zip(paths, scene(3), strict=True):
        write_image(path, picture)
    look, out = viewer(task), tmp_path / "out"
    spoil(2)
    before = f"what was seen of the 2 images before it is in {out}"
    with pytest.raises(NonFiniteError, match=said(str(paths[2]), before)):
        run(look, paths, out=out)
    entries = json.loads((out / "demo.json").read_text())["images"]
    assert [entry["image"] for entry in entries] == [str(path) for path in paths[:2]]


@pytest.mark.parametrize("task", ["segment", "detect"])
def test_a_video_ends_before_the_frame_that_is_named(tmp_path: Path, spoil: Spoil, task: str) -> None:
    look, out = viewer(task), tmp_path / "out.mkv"
    spoil(3)
    with pytest.raises(NonFiniteError, match=said("pictures, frame 4", f"the 3 frames before it are in {out}")):
        write_stream(look, as_frames(scene(6)), StreamConfig(steps=1), out=out)
    assert video.frames(out).count == 3
    out.unlink()
    with pytest.raises(NonFiniteError, match=r"^pictures, frame 1: .* precision$"):
        write_stream(look, as_frames(scene(2)), StreamConfig(steps=1), out=out)
    assert not out.exists()


@pytest.mark.parametrize("experiment", [DIGITS, STREET, DETECT])
def test_validation_never_counts_values_that_are_no_numbers(
    data: Path, tmp_path: Path, spoil: Spoil, experiment: Experiment
) -> None:
    model = load(saved(experiment, tmp_path))
    spoil(0)
    with pytest.raises(NonFiniteError, match="is not finite"), torch.no_grad():
        validation(experiment.task, experiment.recipe, data)(model)


@pytest.mark.parametrize("experiment", [DIGITS, STREET, DETECT])
def test_no_share_of_outputs_that_are_no_numbers_is_right(data: Path, experiment: Experiment) -> None:
    task = experiment.task
    batch = next(iter(batches_in_order(task, data, "test", 2, multiple=8)))
    head = experiment.model.architecture.head
    assert head is not None
    count = head.classes + 4 * isinstance(task, Detect)
    shape = (2, count) if isinstance(task, Classify) else (2, count, 8, 16)
    assert float(training_metric(task, torch.full(shape, torch.nan), batch)) == 0.0


def test_a_batch_without_a_labelled_pixel_has_a_number_for_its_share(data: Path) -> None:
    batch = next(iter(batches_in_order(STREET.task, data, "test", 1, multiple=8)))
    assert (
        float(training_metric(STREET.task, torch.zeros(1, 8, 8, 16), replace(batch, labels=batch.labels * 0 + 255)))
        == 0
    )
