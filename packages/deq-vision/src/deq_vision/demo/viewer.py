"""Frames of any size in, pictures of what a network makes of them out: shared by the demo and by streaming."""

from dataclasses import dataclass

from torch import Tensor

from deq_core.experiment.config import ConfigError
from deq_vision.data.scenes import fitted_to
from deq_vision.data.transforms import centre_crop, resize
from deq_vision.demo.label_space import LabelSpace
from deq_vision.demo.overlay import with_boxes, with_classes, with_legend
from deq_vision.detection.decoding import Decoding, Detections, detect
from deq_vision.models.mdeq import MDEQ
from deq_vision.windows import padded, unreduced_classes

LEAST = 16  # pixels a side
BEST = 5
"""Classes that are named of an image."""


@dataclass(frozen=True)
class Viewer:
    """Prepares frames for a model with a label space, and draws what it gives for them.

    Raises:
        ConfigError: a number out of range.
    """

    model: MDEQ
    label_space: LabelSpace
    side: int | None = None
    """Longer side of the frames that the model sees, pixels, to which larger ones are reduced; None is what the label
    space says. A classifier has none."""
    least_score: float = 0.3
    """Detections below it are not shown."""

    def __post_init__(self) -> None:
        if self.side is not None and self.side < LEAST:
            raise ConfigError(f"side: expected at least {LEAST} pixels, got {self.side}")
        if self.side is not None and self.label_space.task == "classify":
            raise ConfigError(f"side: expected none, since a classifier sees the middle of an image, got {self.side}")
        if not 0 <= self.least_score <= 1:
            raise ConfigError(f"least_score: expected a number from 0 to 1, got {self.least_score}")

    def prepare(self, frame: Tensor) -> Tensor:
        """float32 (1, 3, H, W) of a frame uint8 (3, h, w): reduced or cropped, normalised, padded; on the device."""
        if self.label_space.task == "classify":
            crop = self.label_space.crop
            seen = frame if crop is None else centre_crop(frame, short_side=crop[0], size=crop[1])
        else:
            seen = resize(frame, self.seen_size(frame))
        device = next(self.model.parameters()).device
        return padded(self.label_space.normalisation.apply(seen.to(device))[None], self.model.size.multiple)

    def seen_size(self, frame: Tensor) -> tuple[int, int]:
        """(h, w) of what the model sees of a frame (3, h, w)."""
        height, width = frame.shape[1:]
        if self.side is None:
            return fitted_to((height, width), self.label_space.sides)
        if max(height, width) <= self.side:
            return height, width
        factor = self.side / max(height, width)
        return max(1, round(factor * height)), max(1, round(factor * width))

    def probabilities(self, logits: Tensor) -> Tensor:
        """float32 (classes,), on the CPU."""
        return logits[0].float().softmax(dim=0).cpu()

    def classes(self, logits: Tensor, images: Tensor, frame: Tensor) -> Tensor:
        """int64 (h, w), the class of every pixel of the frame."""
        return unreduced_classes(logits, images.shape[2:], self.seen_size(frame), frame.shape[1:])[0].cpu()

    def detections(self, logits: Tensor, images: Tensor, frame: Tensor) -> Detections:
        """Boxes in the pixels of the frame, on the CPU."""
        size = self.seen_size(frame)
        decoding = Decoding(least_score=self.least_score)
        (found,) = detect(logits, [size], images.shape[3] // logits.shape[3], decoding)
        return found.cpu().enlarged(size, frame.shape[1:])

    def best(self, logits: Tensor) -> list[tuple[int, float]]:
        """The most probable classes of an image, at most `BEST`, with their probabilities."""
        values, order = self.probabilities(logits).topk(min(BEST, len(self.label_space.names)))
        return list(zip(order.tolist(), values.tolist(), strict=True))

    def draw(self, logits: Tensor, images: Tensor, frame: Tensor) -> Tensor:
        """The frame with what the model sees in it, uint8 (3, h, w); a small one with boxes is enlarged."""
        names, colours = self.label_space.names, self.label_space.colours
        match self.label_space.task:
            case "classify":
                return frame
            case "segment":
                return with_classes(frame, self.classes(logits, images, frame), colours)
            case "detect":
                return with_boxes(frame, self.detections(logits, images, frame), names, colours)

    def picture(self, logits: Tensor, images: Tensor, frame: Tensor) -> Tensor:
        """`draw`, enlarged if it is small, and below it the legend: all classes, or the best with probabilities."""
        names, colours = self.label_space.names, self.label_space.colours
        drawn = self.draw(logits, images, frame)
        if self.label_space.task != "classify":
            return with_legend(drawn, names, colours)
        best = self.best(logits)
        texts, widest = [f"{names[index]} {value:.2f}" for index, value in best], [f"{name} 0.00" for name in names]
        return with_legend(drawn, texts, [colours[index] for index, _ in best], widest=widest)
