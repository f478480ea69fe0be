"""Preprocessing of frames of any size, and drawing of results, for the demos on images and video."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from deq_core.experiment.config import ConfigError
from deq_core.experiment.device import chosen_device
from deq_vision.data.scenes import fitted_to
from deq_vision.data.transforms import centre_crop, resize
from deq_vision.demo.label_space import LabelSpace, Pixels, TaskName, label_space_of
from deq_vision.demo.overlay import with_boxes, with_classes, with_legend
from deq_vision.detection.decoding import Decoding, Detections, detect
from deq_vision.models import shipped
from deq_vision.models.build import load
from deq_vision.models.mdeq import MDEQ
from deq_vision.windows import padded, unreduced_classes

LEAST = 16  # minimum side of a frame, pixels
BEST = 5
"""Number of classes listed for an image."""


@dataclass(frozen=True)
class Viewer:
    """Prepares frames for a model with a label space, and draws its results.

    Raises:
        ConfigError: a number is out of range.
    """

    model: MDEQ
    label_space: LabelSpace
    side: int | None = None
    """Longer side of the frames as the model sees them, pixels; larger ones are downscaled. None for that of the label
    space; classifiers have none."""
    least_score: float = 0.3
    """Score below which detections are not shown."""

    def __post_init__(self) -> None:
        if self.side is not None and self.side < LEAST:
            raise ConfigError(f"side: expected at least {LEAST} pixels, got {self.side}")
        if self.side is not None and self.label_space.task == "classify":
            raise ConfigError(f"side: expected none, since a classifier sees the middle of an image, got {self.side}")
        if not 0 <= self.least_score <= 1:
            raise ConfigError(f"least_score: expected a number from 0 to 1, got {self.least_score}")

    def prepare(self, frame: Tensor) -> Tensor:
        """The model's input, float32 (1, 3, H, W) on its device, for a frame uint8 (3, h, w)."""
        if self.label_space.task == "classify":
            crop = self.label_space.crop
            seen = frame if crop is None else centre_crop(frame, short_side=crop[0], size=crop[1])
        else:
            seen = resize(frame, self.seen_size(frame))
        device = next(self.model.parameters()).device
        return padded(self.label_space.normalisation.apply(seen.to(device))[None], self.model.size.multiple)

    def seen_size(self, frame: Tensor) -> tuple[int, int]:
        """Size (h, w) at which the model sees a frame (3, h, w), without padding."""
        height, width = frame.shape[1:]
        if self.side is None:
            return fitted_to((height, width), self.label_space.sides)
        if max(height, width) <= self.side:
            return height, width
        factor = self.side / max(height, width)
        return max(1, round(factor * height)), max(1, round(factor * width))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities, float32 (classes,), on the CPU."""
        return logits[0].float().softmax(dim=0).cpu()

    def classes(self, logits: Tensor, images: Tensor, frame: Tensor) -> Tensor:
        """Class of every pixel of the frame, int64 (h, w)."""
        return unreduced_classes(logits, images.shape[2:], self.seen_size(frame), frame.shape[1:])[0].cpu()

    def detections(self, logits: Tensor, images: Tensor, frame: Tensor) -> Detections:
        """Detections in pixels of the frame, on the CPU."""
        size = self.seen_size(frame)
        decoding = Decoding(least_score=self.least_score)
        (found,) = detect(logits, [size], images.shape[3] // logits.shape[3], decoding)
        return found.cpu().enlarged(size, frame.shape[1:])

    def best(self, logits: Tensor) -> list[tuple[int, float]]:
        """The most probable classes of an image, up to `BEST`, with their probabilities."""
        values, order = self.probabilities(logits).topk(min(BEST, len(self.label_space.names)))
        return list(zip(order.tolist(), values.tolist(), strict=True))

    def draw(self, logits: Tensor, images: Tensor, frame: Tensor) -> Tensor:
        """Draws results on the frame, uint8 (3, h, w); a small one with boxes is enlarged."""
        names, colours = self.label_space.names, self.label_space.colours
        match self.label_space.task:
            case "classify":
                return frame
            case "segment":
                return with_classes(frame, self.classes(logits, images, frame), colours)
            case "detect":
                return with_boxes(frame, self.detections(logits, images, frame), names, colours)

    def picture(self, logits: Tensor, images: Tensor, frame: Tensor) -> Tensor:
        """`draw`, enlarged if small, with a legend below: all classes, or the best with probabilities."""
        names, colours = self.label_space.names, self.label_space.colours
        drawn = self.draw(logits, images, frame)
        if self.label_space.task != "classify":
            return with_legend(drawn, names, colours)
        best = self.best(logits)
        texts, widest = [f"{names[index]} {value:.2f}" for index, value in best], [f"{name} 0.00" for name in names]
        return with_legend(drawn, texts, [colours[index] for index, _ in best], widest=widest)


def viewer_of(
    checkpoint: str | None,
    task: TaskName | None,
    device: str,
    *,
    side: int | None,
    least_score: float,
    pixels: Pixels,
    names: Path | None,
) -> tuple[Viewer, str]:
    """That of a checkpoint, or of the shipped one for a task, by the options of the commands; and the checkpoint."""
    checkpoint, side = shipped.chosen(checkpoint, task, side)
    model = load(checkpoint).to(chosen_device(device))
    label_space = label_space_of(model, pixels=pixels, names=names)
    if task not in (None, label_space.task):
        raise ConfigError(f"checkpoint: expected one to {task} with, got {checkpoint}, which is to {label_space.task}")
    return Viewer(model, label_space, side=side, least_score=least_score), checkpoint
