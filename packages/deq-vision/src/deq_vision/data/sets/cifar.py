"""CIFAR-10 (Krizhevsky, 2009) in its binary version: consecutive records of a label and a 32 x 32 image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.images import FileFormatError, damaged
from deq_core.experiment.data.layout import LayoutError, require
from deq_core.experiment.data.published import DataSet
from deq_core.experiment.download.fetch import Archive, Source
from deq_core.experiment.files import write_bytes
from deq_core.experiment.reading import read_text
from deq_vision.data.samples import LabelledImage

FOLDER = "cifar-10-batches-bin"
SIDE = 32  # pixels
RECORD = 1 + 3 * SIDE * SIDE  # bytes: the label, then the rows of red, of green, of blue
CLASSES = 10
FILES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "val": ("val_batch.bin",),
    "test": ("test_batch.bin",),
}
HINT = "fetch it with `deq-vision download cifar10`"


class Cifar10(Dataset[LabelledImage]):
    """The images of `root`/cifar-10-batches-bin in the order of the files.

    The release has no validation split. The mini set has one in the same format: val_batch.bin.

    Args:
        root: folder that holds cifar-10-batches-bin.
        split: "train" (data_batch_1.bin to data_batch_5.bin), "val" or "test" (test_batch.bin).

    Raises:
        LayoutError: a file is missing.
        FileFormatError: a file does not consist of whole records, or has a label outside 0 to 9.
    """

    def __init__(self, root: Path, split: Literal["train", "val", "test"] = "train") -> None:
        folder = root / FOLDER
        if not folder.is_dir():
            raise LayoutError(f"{folder}: expected the binary version of CIFAR-10, but there is none; {HINT}", [folder])
        if split == "val" and not (folder / FILES["val"][0]).is_file():
            raise LayoutError(
                f"{folder / FILES['val'][0]}: CIFAR-10 as released has no validation split, only the mini set has; "
                "hold out a part of the training split instead"
            )
        paths = [folder / name for name in FILES[split]]
        require(paths, because=f"{split} split of CIFAR-10")
        self.parts = [(path.stem, read_records(path)) for path in paths]
        self.starts = np.cumsum([0, *(len(records) for _, records in self.parts)])
        self.classes = read_names(folder / "batches.meta.txt")

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> LabelledImage:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be from 0 to {len(self) - 1}, got {index}")
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        stem, records = self.parts[part]
        place = index - int(self.starts[part])
        record = np.array(records[place])  # a copy, as the file is memory-mapped
        image = torch.from_numpy(rearrange(record[1:], "(c h w) -> c h w", c=3, h=SIDE))
        return LabelledImage(image, int(record[0]), f"{stem}/{place:05d}")


def read_records(path: Path) -> np.ndarray:
    """Memory-maps a file of records, uint8 (n, 3073).

    Raises:
        FileFormatError: the file is empty, does not consist of whole records, or has a label outside 0 to 9.
    """
    length = path.stat().st_size
    if length == 0 or length % RECORD:
        raise damaged(path, f"records of {RECORD} bytes", f"{length} bytes")
    records = np.memmap(path, dtype=np.uint8, mode="r", shape=(length // RECORD, RECORD))
    greatest = int(records[:, 0].max())
    if greatest >= CLASSES:
        raise damaged(path, f"labels from 0 to {CLASSES - 1}", f"{greatest}")
    return records


def write_records(path: Path, images: Tensor, labels: Tensor) -> None:
    """Writes images uint8 (n, 3, 32, 32) with labels (n,) from 0 to 9.

    Raises:
        ValueError: images or labels have another type, shape or range.
    """
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != (3, SIDE, SIDE) or len(images) != len(labels):
        raise ValueError(
            f"{path}: expected as many labels as uint8 images (n, 3, {SIDE}, {SIDE}), "
            f"got {len(labels)} and {images.dtype} {tuple(images.shape)}"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < CLASSES:
        raise ValueError(f"{path}: labels must be from 0 to {CLASSES - 1}")
    records = torch.cat([labels.to(torch.uint8)[:, None], rearrange(images, "n c h w -> n (c h w)")], dim=1)
    write_bytes(path, records.numpy().tobytes())


def read_names(path: Path) -> Sequence[str]:
    """Reads the names of the ten classes, one per line.

    Raises:
        LayoutError: the file does not exist.
        FileFormatError: it has another number of names.
    """
    require([path], because="names of the classes")
    names = tuple(line.strip() for line in read_text(path, FileFormatError).splitlines() if line.strip())
    if len(names) != CLASSES:
        raise damaged(path, f"{CLASSES} names, one a line", f"{len(names)}")
    return names


SETS: Mapping[str, DataSet] = {
    "cifar10": DataSet(
        source=Source(
            title="CIFAR-10, binary version",
            page="https://www.cs.toronto.edu/~kriz/cifar.html",
            licence="No licence is stated; the page asks to cite Krizhevsky, Learning multiple layers of features "
            "from tiny images, 2009. 162 MB packed.",
            archives=(
                Archive(
                    out="cifar-10-batches-bin",
                    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                    checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",  # published on the page
                ),
            ),
        ),
        folder=FOLDER,
        parts=(Part("", Cifar10, 50_000), Part("", lambda root: Cifar10(root, "test"), 10_000)),
        whole={".bin": lambda path, *, decoded: read_records(path)},
    ),
}
