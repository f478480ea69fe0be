"""Cityscapes (Cordts et al., CVPR 2016): street scenes with pixel labels, as single images and as videos."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.image_headers import whole_size
from deq_core.experiment.data.images import damaged, decode, read_image
from deq_core.experiment.data.layout import LayoutError, files_in, require, require_size
from deq_core.experiment.data.published import DataSet, size_of
from deq_core.experiment.download.fetch import Source
from deq_vision.data.classes import CITYSCAPES, LabelSet
from deq_vision.data.samples import SegmentedImage

Split = Literal["train", "val", "test"]
FOLDER = "cityscapes"
HINT = (
    "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip so that root/cityscapes holds leftImg8bit and "
    "gtFine; `deq-vision download cityscapes` says where they are"
)
LABELS = "*_gtFine_labelIds.png"
"""Names of label files; the release has other images of labels in the same folders, which are not read."""
GREATEST_ID = 33
"""Greatest label id in the release's images, which start from 0; classes with negative ids are not drawn."""
VIDEO_HINT = "unpack leftImg8bit_sequence_trainvaltest.zip so that root/cityscapes holds leftImg8bit_sequence"


class Cityscapes(Dataset[SegmentedImage]):
    """The annotated frames of `root`/cityscapes/leftImg8bit/`split`, with the labels of gtFine, sorted by name.

    The labels of the release's test split are not published: in its files no pixel has a class.

    Args:
        root: folder that holds cityscapes.
        split: train (2975 frames), val (500) or test (1525).
        labels: classes and their label ids.

    Raises:
        LayoutError: a folder, frame or label file is missing.
    """

    def __init__(self, root: Path, split: Split = "train", *, labels: LabelSet = CITYSCAPES) -> None:
        self.labels = labels
        self.images = files_in(root / FOLDER / "leftImg8bit" / split, "*/*_leftImg8bit.png", hint=HINT)
        require([labels_of(image) for image in self.images], because="labels of the frames")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> SegmentedImage:
        path = self.images[index]
        image = read_image(path)
        return SegmentedImage(image, read_labels(labels_of(path), image, self.labels), Frame.of(path).name)


class CityscapesVideos(Sequence["Snippet"]):
    """The videos of a split in leftImg8bit_sequence: 30 frames each, of which the 20th is annotated.

    Args:
        root: folder that holds cityscapes.
        split: as for `Cityscapes`.
        before: number of frames before the annotated one, at most 19.
        after: number of frames after it, at most 10.
        labels: classes and their label ids.

    Raises:
        LayoutError: a folder, frame or label file is missing.
        ValueError: more frames are requested than there are.
    """

    def __init__(
        self, root: Path, split: Split = "val", *, before: int = 19, after: int = 0, labels: LabelSet = CITYSCAPES
    ) -> None:
        if not 0 <= before <= 19 or not 0 <= after <= 10:
            raise ValueError(
                f"expected 0 to 19 frames before the annotated one and 0 to 10 after, got {before}, {after}"
            )
        frames = root / FOLDER / "leftImg8bit_sequence" / split
        if not frames.is_dir():
            raise LayoutError(f"{frames}: expected the frames of videos, but there is no such folder", [frames])
        annotated = Cityscapes(root, split, labels=labels).images
        self.snippets = [Snippet.around(image, frames, before, after, labels) for image in annotated]
        require([path for snippet in self.snippets for path in snippet.frames], because=f"frames; {VIDEO_HINT}")

    def __len__(self) -> int:
        return len(self.snippets)

    def __getitem__(self, index: int) -> "Snippet":  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices
        return self.snippets[index]


@dataclass(frozen=True)
class Snippet:
    """Consecutive frames of a video, read on access."""

    name: str
    frames: tuple[Path, ...]
    annotated: int
    """Index of the annotated frame."""
    known: tuple[Path, ...]
    """Label file of each frame, which may not exist; in the release only the annotated frame has one."""
    labels: LabelSet

    @staticmethod
    def around(image: Path, folder: Path, before: int, after: int, labels: LabelSet) -> "Snippet":
        """The frames of `folder`/city around the annotated frame `image`."""
        middle = Frame.of(image)
        frames, known = [], []
        for number in range(middle.number - before, middle.number + after + 1):
            frame = Frame(middle.city, middle.sequence, number)
            path = folder / middle.city / f"{frame.name}_leftImg8bit.png"
            frames.append(path)
            known.append(labels_of(image if number == middle.number else path))
        return Snippet(middle.name, tuple(frames), before, tuple(known), labels)

    def __len__(self) -> int:
        return len(self.frames)

    def image(self, index: int) -> Tensor:
        """uint8 RGB (3, h, w)."""
        return read_image(self.frames[index])

    def segmented(self, index: int) -> SegmentedImage | None:
        """The frame with its labels, or None if it has none."""
        path = self.known[index]
        if not path.is_file():
            return None
        image = self.image(index)
        return SegmentedImage(image, read_labels(path, image, self.labels), Frame.of(self.frames[index]).name)


@dataclass(frozen=True)
class Frame:
    """The parts of a frame's name, city_sequence_number, such as frankfurt_000000_000294."""

    city: str
    sequence: str
    number: int

    @property
    def name(self) -> str:
        """The name without the suffix of file names."""
        return f"{self.city}_{self.sequence}_{self.number:06d}"

    @staticmethod
    def of(path: Path) -> "Frame":
        """Parses the name of a file.

        Raises:
            LayoutError: the name has another form.
        """
        match = re.fullmatch(r"(.+)_(\d{6})_(\d{6})_leftImg8bit", path.stem)
        if match is None:
            raise LayoutError(f"{path}: expected a name such as aachen_000000_000019_leftImg8bit.png")
        return Frame(match[1], match[2], int(match[3]))


def labels_of(image: Path) -> Path:
    """The label file of a frame, in gtFine or, for the mini set's videos, in gtFine_sequence."""
    split = image.parents[1]
    folder = split.parents[1] / split.parent.name.replace("leftImg8bit", "gtFine")
    return folder / split.name / image.parent.name / image.name.replace("_leftImg8bit", "_gtFine_labelIds")


def frames_of(labels: Path) -> list[Path]:
    """The frames that a label file belongs to: its own and, for annotated frames, the same one in the videos."""
    split = labels.parents[1]
    name = labels.name.replace("_gtFine_labelIds", "_leftImg8bit")
    own = split.parent.name.replace("gtFine", "leftImg8bit")
    folders = dict.fromkeys((own, "leftImg8bit_sequence"))
    return [split.parents[1] / folder / split.name / labels.parent.name / name for folder in folders]


def read_labels(path: Path, image: Tensor, labels: LabelSet) -> Tensor:
    """Reads class indices, uint8 (h, w), from the label file of an image.

    Raises:
        FileFormatError: the file is damaged, not an 8-bit image of one channel, or of another size than its image.
    """
    stored = decode(path, cv2.IMREAD_UNCHANGED)
    require_one_channel(path, stored)
    ids = torch.from_numpy(stored)
    require_size(path, ids, image)
    return labels.indices(ids)


def require_one_channel(path: Path, stored: np.ndarray) -> None:
    """Raises FileFormatError unless a label file has one channel of 8 bits."""
    if stored.ndim != 2 or stored.dtype != "uint8":
        raise damaged(path, "an 8-bit image of one channel", f"{stored.dtype} of shape {stored.shape}")


def whole_file(path: Path, *, decoded: bool) -> None:
    """Checks that a label file of Cityscapes is a PNG of its frame's size and, if `decoded`, has valid ids.

    Raises:
        FileFormatError: the file is damaged, of another size than its frame, or not a map of label ids.
    """
    if not path.match(LABELS):
        whole_size(path, decoded=decoded)
        return
    size = whole_size(path, formats=("PNG",), decoded=decoded)  # JPEG compression would change the ids
    for frame in frames_of(path):
        expected = size_of(frame)
        if expected is not None and size != expected:
            raise damaged(path, f"{expected[1]}x{expected[0]} pixels, the size of {frame}", f"{size[1]}x{size[0]}")
    if decoded:
        stored = decode(path, cv2.IMREAD_UNCHANGED)
        require_one_channel(path, stored)
        if (greatest := int(stored.max())) > GREATEST_ID:  # otherwise read as pixels without a class
            raise damaged(path, f"label ids from 0 to {GREATEST_ID}", str(greatest))


SETS: Mapping[str, DataSet] = {
    "cityscapes": DataSet(
        source=Source(
            title="Cityscapes",
            page="https://www.cityscapes-dataset.com/downloads/",
            licence="You accept the terms when you register: https://www.cityscapes-dataset.com/license/. Cite "
            "Cordts et al., CVPR 2016. 11 GB and 0.3 GB packed.",
            manual="log in and download leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip; unpack both in the "
            "folder cityscapes, so that it holds leftImg8bit and gtFine.",
        ),
        folder=FOLDER,
        places=("leftImg8bit", "gtFine"),
        parts=(
            Part("leftImg8bit/train", Cityscapes, 2_975),
            Part("leftImg8bit/val", lambda root: Cityscapes(root, "val"), 500),
            Part("leftImg8bit/test", lambda root: Cityscapes(root, "test"), 1_525),
        ),
        whole={".png": whole_file},
    ),
    "cityscapes-videos": DataSet(
        source=Source(
            title="Cityscapes, the videos around its annotated frames",
            page="https://www.cityscapes-dataset.com/downloads/",
            licence="You accept the terms when you register: https://www.cityscapes-dataset.com/license/. Cite "
            "Cordts et al., CVPR 2016. 324 GB packed.",
            manual="log in and download leftImg8bit_sequence_trainvaltest.zip; unpack it in the folder cityscapes, "
            "beside leftImg8bit and gtFine, so that it holds leftImg8bit_sequence. For evaluation the validation "
            "split alone suffices.",
        ),
        folder=FOLDER,
        places=("leftImg8bit_sequence", "gtFine_sequence", "gtFine"),
        parts=(
            Part("leftImg8bit_sequence/train", lambda root: CityscapesVideos(root, "train", after=10), 2_975),
            Part("leftImg8bit_sequence/val", lambda root: CityscapesVideos(root, "val", after=10), 500),
            Part("leftImg8bit_sequence/test", lambda root: CityscapesVideos(root, "test", after=10), 1_525),
        ),
        whole={".png": whole_file},
    ),
}
