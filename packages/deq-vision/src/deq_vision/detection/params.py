"""The detection task in params.yaml."""

from dataclasses import dataclass, field
from typing import Literal

from deq_vision.data.scenes import SceneAugment, require_sides
from deq_vision.data.transforms import Normalisation
from deq_vision.detection.decoding import Decoding
from deq_vision.detection.targets import DetectionLoss


@dataclass(frozen=True, kw_only=True)
class Detect:
    """Object detection in frames in ImageNet VID's layout or in your own images."""

    objects: Literal["vid", "street", "own"]
    """The 30 classes of ImageNet VID, the three of the mini set, or the categories of your own annotation file."""
    folder: str = "."
    """Folder of the data set, relative to that of the data."""
    still_images: bool = False
    """Whether to train on ImageNet DET's images of these classes too, as StreamDEQ's detector did."""
    frames_per_video: int | None = None
    """Number of frames of each training video, evenly spaced; None takes all. 15 is usual for VID."""
    augment: SceneAugment | None = None
    test_sides: tuple[int, int] | None = None
    """Longer and shorter side that an image is resized to fit within in evaluation, pixels; None keeps it unchanged."""
    normalisation: Normalisation
    loss: DetectionLoss = field(default_factory=DetectionLoss)
    decoding: Decoding = field(default_factory=Decoding)
    validation_split: Literal["val", "test"] = "val"
    """Split measured during training."""
    kind: Literal["detect"] = field(default="detect", repr=False)

    def __post_init__(self) -> None:
        require_sides(self.test_sides)
        if self.objects == "own" and (self.still_images or self.frames_per_video is not None):
            raise ValueError("still_images and frames_per_video: only for objects vid and street")
        if self.frames_per_video is not None and self.frames_per_video < 1:
            raise ValueError(f"frames_per_video must be at least 1, got {self.frames_per_video}")
