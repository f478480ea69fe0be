"""Detection as a task of `params.yaml`."""

from dataclasses import dataclass, field
from typing import Literal

from deq_vision.data.scenes import SceneAugment, require_sides
from deq_vision.data.transforms import Normalisation
from deq_vision.detection.decoding import Decoding
from deq_vision.detection.targets import DetectionLoss


@dataclass(frozen=True, kw_only=True)
class Detect:
    """Boxes around objects, of frames in ImageNet VID's layout or of pictures of one's own."""

    objects: Literal["vid", "street", "own"]
    """The 30 classes of ImageNet VID, the three of the mini set, or the categories of one's own file of boxes."""
    folder: str = "."
    """Where the set is, below the folder of the data."""
    still_images: bool = False
    """Whether ImageNet DET's images of these classes are trained on too, as StreamDEQ's detector was."""
    frames_per_video: int | None = None
    """Frames of each training video, evenly spread; None takes all. Those used for VID take 15."""
    augment: SceneAugment | None = None
    test_sides: tuple[int, int] | None = None
    """Longest longer and shorter side that an image is brought to for evaluation, pixels; None leaves it as it is."""
    normalisation: Normalisation
    loss: DetectionLoss = field(default_factory=DetectionLoss)
    decoding: Decoding = field(default_factory=Decoding)
    validation_split: Literal["val", "test"] = "val"
    """Split that a network in training is measured on."""
    kind: Literal["detect"] = field(default="detect", repr=False)

    def __post_init__(self) -> None:
        require_sides(self.test_sides)
        if self.objects == "own" and (self.still_images or self.frames_per_video is not None):
            raise ValueError("still_images and frames_per_video: of objects vid and street alone")
        if self.frames_per_video is not None and self.frames_per_video < 1:
            raise ValueError(f"frames_per_video must be at least 1, got {self.frames_per_video}")
