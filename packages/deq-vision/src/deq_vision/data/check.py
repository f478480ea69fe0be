"""Checks a published or mini data set on disk; see `deq_core.experiment.data.checks`."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import cv2

from deq_core.experiment.data import checks
from deq_core.experiment.data.checks import Part, Problem
from deq_core.experiment.data.image_headers import image_size, whole_size
from deq_core.experiment.data.images import FileFormatError, damaged, decode
from deq_vision.data import classes
from deq_vision.data.sets import cifar, cityscapes, imagenet, imagenet_vid
from deq_vision.data.sets.annotations import read_annotation
from deq_vision.data.sets.cifar import Cifar10
from deq_vision.data.sets.cityscapes import Cityscapes, CityscapesVideos
from deq_vision.data.sets.imagenet import ImageNet
from deq_vision.data.sets.imagenet_vid import ImageNetDet, ImageNetVid

FOLDERS: Mapping[str, str] = {
    "cifar10": cifar.FOLDER,
    "imagenet": imagenet.FOLDER,
    "cityscapes": cityscapes.FOLDER,
    "cityscapes-videos": cityscapes.FOLDER,
    "vid": imagenet_vid.FOLDER,
    "det": imagenet_vid.FOLDER,
}
PARTS: Mapping[str, tuple[Part, ...]] = {
    "cifar10": (Part("", Cifar10, 50_000), Part("", lambda root: Cifar10(root, "test"), 10_000)),
    "imagenet": (Part("train", ImageNet, 1_281_167), Part("val", lambda root: ImageNet(root, "val"), 50_000)),
    "cityscapes": (
        Part("leftImg8bit/train", Cityscapes, 2_975),
        Part("leftImg8bit/val", lambda root: Cityscapes(root, "val"), 500),
        Part("leftImg8bit/test", lambda root: Cityscapes(root, "test"), 1_525),
    ),
    "cityscapes-videos": (
        Part("leftImg8bit_sequence/train", lambda root: CityscapesVideos(root, "train", after=10), 2_975),
        Part("leftImg8bit_sequence/val", lambda root: CityscapesVideos(root, "val", after=10), 500),
        Part("leftImg8bit_sequence/test", lambda root: CityscapesVideos(root, "test", after=10), 1_525),
    ),
    "vid": (
        Part("Data/VID/train", ImageNetVid, 1_122_397),
        Part("Data/VID/val", lambda root: ImageNetVid(root, "val"), 176_126),
    ),
    "det": (Part("Data/DET", ImageNetDet),),
}
"""Counts: those of the publishers' pages, and of the development kit of ILSVRC 2015."""
PLACES: Mapping[str, tuple[str, ...]] = {
    "cityscapes": ("leftImg8bit", "gtFine"),
    "cityscapes-videos": ("leftImg8bit_sequence", "gtFine_sequence", "gtFine"),
    "vid": ("Data/VID", "Annotations/VID"),
    "det": ("Data/DET", "Annotations/DET"),
}
"""Where, in a folder that sets share, the files of each are."""
EVERY_OBJECT = dict.fromkeys((*classes.VID, *classes.STREET_OBJECTS), 0)


def whole_image(path: Path, *, decoded: bool) -> None:
    """Label files of Cityscapes must be PNGs as large as their frames, and of its ids where they are `decoded`.

    Raises:
        FileFormatError: the file is damaged, of another size than its frame, or no map of label ids.
    """
    if not path.match(cityscapes.LABELS):
        whole_size(path, decoded=decoded)
        return
    size = whole_size(path, formats=("PNG",), decoded=decoded)  # a JPEG would have other numbers than were written
    for frame in cityscapes.frames_of(path):
        expected = size_of(frame)
        if expected is not None and size != expected:
            raise damaged(path, f"{expected[1]}x{expected[0]} pixels, the size of {frame}", f"{size[1]}x{size[0]}")
    if decoded:
        stored = decode(path, cv2.IMREAD_UNCHANGED)
        cityscapes.require_one_channel(path, stored)
        if (greatest := int(stored.max())) > cityscapes.GREATEST_ID:  # which would be taken for pixels of no class
            raise damaged(path, f"label ids from 0 to {cityscapes.GREATEST_ID}", str(greatest))


def whole_annotation(path: Path) -> None:
    """Annotations of ImageNet must be of the size of their frames.

    Raises:
        FileFormatError: the file is damaged, or of another size than its frame.
    """
    known = read_annotation(path, EVERY_OBJECT)
    size = size_of(imagenet_vid.frame_of(path))
    if size is not None:
        imagenet_vid.require_size_of(path, known, size)


def size_of(frame: Path) -> tuple[int, int] | None:
    """Height and width of a frame as it is stored; None where it is missing or damaged, which is said of it itself."""
    try:
        return image_size(frame)
    except (FileFormatError, FileNotFoundError):
        return None


def readers(*, thorough: bool) -> Mapping[str, Callable[[Path], object]]:
    """{suffix: raises `FileFormatError` unless the file is whole}"""
    image = partial(whole_image, decoded=thorough)
    return {
        ".bin": cifar.read_records,
        ".jpeg": image,
        ".jpg": image,
        ".png": image,
        ".xml": whole_annotation,
    }


def check(name: str, root: Path, *, released: bool = True, thorough: bool = False) -> list[Problem]:
    """What is wrong with the data set `name` below `root`; empty if it is complete and every file whole.

    Every file that a reader needs must be there, and every image and annotation of the set be whole. Label files of
    Cityscapes and annotations of ImageNet must have the sizes of their frames.

    Args:
        name: cifar10, imagenet, cityscapes, cityscapes-videos, vid or det.
        root: folder of the data sets.
        released: whether the numbers of samples must be those of the release, and every split be there. False for a
            mini set or a part of the release, of which only what is there is checked.
        thorough: whether images are decoded too, which takes hours. It finds part of the JPEGs that were overwritten in
            their middle, and label files that hold other numbers than label ids.

    Raises:
        ValueError: there is no such set.
    """
    if name not in PARTS:
        raise ValueError(f"expected one of the sets {', '.join(PARTS)}, got {name!r}")
    folder = root / FOLDERS[name]
    places = [folder / place for place in PLACES.get(name, ("",))]
    return checks.check(
        folder, PARTS[name], readers(thorough=thorough), released=released, unit="samples", places=places
    )
