"""ImageNet (Russakovsky et al., IJCV 2015): images in folders named after the WordNet ids of their classes."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.images import read_image
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.data.published import IMAGES, DataSet
from deq_core.experiment.download.fetch import Source
from deq_vision.data.samples import LabelledImage

FOLDER = "imagenet"
HINT = (
    "unpack ILSVRC2012_img_train.tar and, in it, each class's archive as a folder; sort the images of "
    "ILSVRC2012_img_val.tar into folders of the same names; `deq-vision download imagenet` says where they are"
)


class ImageNet(Dataset[LabelledImage]):
    """The images of `root`/imagenet/`split`/n01440764/... and so on, classes and images in sorted order.

    Classes are numbered alike in both splits, so these must have the same classes if both are present.

    Args:
        root: folder that holds imagenet.
        split: train (1,281,167 images of 1000 classes) or val (50,000).

    Raises:
        LayoutError: the folder is missing, has no class folder, or lacks one that the other split has; or a class has
            no image.
    """

    def __init__(self, root: Path, split: Literal["train", "val"] = "train") -> None:
        self.folder = folder_of(root, split)
        self.synsets = synsets_of(root, split)
        self.images: list[tuple[int, str]] = []
        for label, synset in enumerate(self.synsets):
            # There are a million files, so avoid further system calls on each.
            names = sorted(entry.name for entry in os.scandir(self.folder / synset) if is_image(entry.name))
            if not names:
                empty = self.folder / synset
                raise LayoutError(f"{empty}: expected images (*.JPEG), but the folder holds none; {HINT}", [empty])
            self.images.extend((label, name) for name in names)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> LabelledImage:
        label, name = self.images[index]
        synset = self.synsets[label]
        return LabelledImage(read_image(self.folder / synset / name), label, f"{synset}/{Path(name).stem}")


def folder_of(root: Path, split: Literal["train", "val"]) -> Path:
    """The folder that holds the classes of a split."""
    return root / FOLDER / split


def synsets_of(root: Path, split: Literal["train", "val"]) -> list[str]:
    """The classes of a split in order, found without listing images.

    Raises:
        LayoutError: the folder is missing, has no class folder, or lacks one that the other split has.
    """
    folder = folder_of(root, split)
    if not folder.is_dir():
        raise LayoutError(f"{folder}: expected folders of classes, but there is none; {HINT}", [folder])
    synsets = classes_in(folder)
    if not synsets:
        raise LayoutError(f"{folder}: expected folders such as n01440764, but it holds none; {HINT}")
    other = folder.with_name("val" if split == "train" else "train")
    if other.is_dir() and (missing := sorted(set(classes_in(other)) - set(synsets))):
        absent = [folder / synset for synset in missing]
        raise LayoutError(
            f"{folder}: expected the classes of {other}, without which the others have wrong numbers; it "
            f"lacks {len(missing)} of them: {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}; {HINT}",
            absent,
        )
    return synsets


def classes_in(folder: Path) -> list[str]:
    """Names of the class folders, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if re.fullmatch(r"n\d{8}", entry.name) and entry.is_dir())


def is_image(name: str) -> bool:
    """Whether a file has the suffix of the release's images or of smaller copies of the data set."""
    return name.lower().endswith((".jpeg", ".jpg", ".png"))


SETS: Mapping[str, DataSet] = {
    "imagenet": DataSet(
        source=Source(
            title="ImageNet, ILSVRC 2012",
            page="https://www.image-net.org/download.php",
            licence="For non-commercial research and education; you must accept the terms. Cite Russakovsky et al., "
            "IJCV 2015. 145 GB packed.",
            manual="log in and download ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar. Unpack the first, and in "
            "it the archive of each class as a folder of its name, to imagenet/train; sort the 50,000 validation "
            "images into folders of the same names in imagenet/val, by the list in the development kit.",
        ),
        folder=FOLDER,
        parts=(Part("train", ImageNet, 1_281_167), Part("val", lambda root: ImageNet(root, "val"), 50_000)),
        whole=IMAGES,
    ),
}
