"""Samples of the data sets: uint8 RGB images with their annotations."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORE_INDEX = 255  # label of pixels that are neither trained on nor measured, as in Cityscapes


@dataclass(frozen=True)
class LabelledImage:
    """An image with its class.

    Raises:
        ValueError: the image has another type or shape than stated here, or the label is negative.
    """

    image: Tensor
    """uint8 (3, h, w), RGB."""
    label: int
    """Index of its class."""
    name: str
    """Unique within the data set."""

    def __post_init__(self) -> None:
        check_image(self.name, self.image)
        if self.label < 0:
            raise ValueError(f"{self.name}: label must not be negative, got {self.label}")


@dataclass(frozen=True)
class SegmentedImage:
    """An image and the class of every pixel.

    Raises:
        ValueError: a tensor has another type or shape than stated here.
    """

    image: Tensor
    """uint8 (3, h, w), RGB."""
    labels: Tensor
    """uint8 (h, w): class indices, `IGNORE_INDEX` where a pixel has no class."""
    name: str
    """Unique within the data set."""
    whole: Tensor | None = None
    """uint8 (H, W): labels at original size to evaluate against, if the image was resized; None for `labels`."""

    def __post_init__(self) -> None:
        check_image(self.name, self.image)
        check(self.name, "labels", self.labels, torch.uint8, tuple(self.image.shape[1:]))


@dataclass(frozen=True)
class Objects:
    """The n objects of one image.

    Raises:
        ValueError: a tensor has another type or shape than stated here, or a box is empty.
    """

    boxes: Tensor
    """float32 (n, 4): left, top, right, bottom, pixels; a box of one pixel at the origin is (0, 0, 1, 1)."""
    classes: Tensor
    """int64 (n,): class indices."""
    tracks: Tensor
    """int64 (n,): track ids, the same in all frames of a video that show the object; -1 if unknown."""
    occluded: Tensor
    """bool (n,): whether the object is partly occluded."""
    areas: Tensor | None = None
    """float32 (n,): areas of the objects in pixels; None if only their boxes are known."""

    def __post_init__(self) -> None:
        count = len(self.boxes)
        check("objects", "boxes", self.boxes, torch.float32, (count, 4))
        check("objects", "classes", self.classes, torch.int64, (count,))
        check("objects", "tracks", self.tracks, torch.int64, (count,))
        check("objects", "occluded", self.occluded, torch.bool, (count,))
        if self.areas is not None:
            check("objects", "areas", self.areas, torch.float32, (count,))
        if self.boxes.device.type != "cpu":
            return  # values were checked on the CPU; reading them from another device would synchronise
        empty = (self.boxes[:, 2:] <= self.boxes[:, :2]).any(dim=1)
        if empty.any():
            raise ValueError(f"boxes must end right of and below where they begin, got {self.boxes[empty][0].tolist()}")

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> "Objects":
        """The objects on a device."""
        moved = (values.to(device) for values in (self.boxes, self.classes, self.tracks, self.occluded))
        return Objects(*moved, areas=None if self.areas is None else self.areas.to(device))

    @staticmethod
    def of(rows: Sequence[tuple[Sequence[float], int, int, bool]]) -> "Objects":
        """Builds the objects from one (box, class, track, occluded) each."""
        boxes = torch.tensor([list(box) for box, *_ in rows], dtype=torch.float32).reshape(-1, 4)
        classes, tracks, occluded = ([row[place] for row in rows] for place in (1, 2, 3))
        return Objects(
            boxes,
            torch.tensor(classes, dtype=torch.int64),
            torch.tensor(tracks, dtype=torch.int64),
            torch.tensor(occluded, dtype=torch.bool),
        )


@dataclass(frozen=True)
class Annotated:
    """Annotations of an image."""

    objects: Objects
    size: tuple[int, int]
    """(h, w)."""
    crowds: Objects | None = None
    """Boxes around groups of objects, within which detections count neither as right nor as wrong."""


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with its objects.

    Raises:
        ValueError: the image has another type or shape than stated here.
    """

    image: Tensor
    """uint8 (3, h, w), RGB."""
    objects: Objects
    name: str
    """Unique within the data set."""
    whole: Annotated | None = None
    """Annotations to evaluate against, if the image was resized or has crowds; None for those here."""

    def __post_init__(self) -> None:
        check_image(self.name, self.image)

    def measured(self) -> Annotated:
        """Annotations to evaluate a detector against."""
        return self.whole or Annotated(self.objects, (self.image.shape[1], self.image.shape[2]))


def check_image(name: str, image: Tensor) -> None:
    """Raises ValueError unless the image is uint8 (3, h, w)."""
    check(name, "image", image, torch.uint8, (3, *image.shape[-2:]))


def check(name: str, field: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the tensor has this type and shape."""
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise ValueError(
            f"{name}: {field} must be {dtype} of shape {shape}, got {tensor.dtype} of shape {tuple(tensor.shape)}"
        )
