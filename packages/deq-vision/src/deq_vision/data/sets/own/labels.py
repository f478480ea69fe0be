"""The file labels.yaml, which maps pixel values or colours of your own masks to classes."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deq_core.experiment import config
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.data.indexed import read_colours, read_numbers
from deq_core.experiment.data.layout import LayoutError
from deq_vision.data.classes import Colour, LabelSet, palette
from deq_vision.data.samples import IGNORE_INDEX

FILE = "labels.yaml"
EXAMPLE = "classes: [{name: soil, index: 0}, {name: leaf, index: 1}]"


@dataclass(frozen=True, kw_only=True)
class Label:
    """A class of pixels."""

    name: str
    index: int | None = None
    """Value of its pixels in grey or indexed masks (PNG)."""
    colour: Colour | None = None
    """RGB colour for display; without an index, also of its pixels in masks."""


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """Contents of labels.yaml.

    Raises:
        ValueError: there are too few or too many classes; a name, index or colour is missing or not unique; or only
            some classes have an index.
    """

    classes: tuple[Label, ...]
    """Classes in the order of the network's outputs."""
    ignore: tuple[int | Colour, ...] = ()
    """Values or colours of pixels that are neither trained on nor measured; any others without a class are errors."""

    def __post_init__(self) -> None:
        if not 2 <= len(self.classes) <= IGNORE_INDEX:
            raise ValueError(f"classes: expected 2 to {IGNORE_INDEX}, got {len(self.classes)}")
        names = [label.name for label in self.classes]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError(f"classes: expected names, each once, got {names}")
        if len({label.index is None for label in self.classes}) > 1:
            bare = next(label.name for label in self.classes if label.index is None)
            raise ValueError(f"classes: expected an index for all or for none, got none for {bare}")
        for label in self.classes:
            if label.index is None and label.colour is None:
                raise ValueError(f"classes: expected an index or a colour for {label.name}, got neither")
        keys = [key for label in self.classes if (key := self._key(label)) is not None] + list(self.ignore)
        for key in keys:
            if isinstance(key, int) != self.by_index:
                wanted = "numbers" if self.by_index else "colours [red, green, blue]"
                raise ValueError(f"ignore: expected {wanted}, as the classes have, got {key}")
        for key in [*keys, *(label.colour for label in self.classes if label.colour is not None)]:
            if not all(0 <= value <= 255 for value in ((key,) if isinstance(key, int) else key)):
                raise ValueError(f"expected numbers from 0 to 255, got {key}")
        for first, second in pairwise(sorted(map(str, keys))):
            if first == second:
                raise ValueError(f"expected every index or colour once, got {first} twice")

    @property
    def by_index(self) -> bool:
        """Whether masks hold indices, not colours."""
        return self.classes[0].index is not None

    def _key(self, label: Label) -> int | Colour | None:
        return label.index if self.by_index else label.colour

    def label_set(self) -> LabelSet:
        """Names, ids and colours of the classes; if masks hold colours, ids count from 0."""
        shown = palette(len(self.classes))
        return LabelSet(
            names=tuple(label.name for label in self.classes),
            ids=tuple(place if label.index is None else label.index for place, label in enumerate(self.classes)),
            colours=tuple(label.colour or shown[place] for place, label in enumerate(self.classes)),
        )

    def read(self, path: Path) -> Tensor:
        """Reads class indices, uint8 (h, w), of a mask; `IGNORE_INDEX` for ignored pixels.

        Raises:
            FileFormatError: the file is damaged, or a pixel has an index or colour that is not in labels.yaml.
        """
        stored = read_numbers(path).astype(np.int64) if self.by_index else packed(read_colours(path))
        known = [self._key(label) for label in self.classes] + list(self.ignore)
        keys = np.array([key if isinstance(key, int) else packed(np.array(key)) for key in known], dtype=np.int64)
        classes = np.full(len(keys), IGNORE_INDEX, dtype=np.uint8)
        classes[: len(self.classes)] = np.arange(len(self.classes))
        order = keys.argsort()
        places = order[np.searchsorted(keys, stored, sorter=order).clip(max=len(keys) - 1)]
        unknown = keys[places] != stored
        if unknown.any():
            y, x = (int(value) for value in np.argwhere(unknown)[0])
            value = int(stored[y, x])
            got = value if self.by_index else [value >> 16, value >> 8 & 255, value & 255]
            what = "index" if self.by_index else "colour"
            raise FileFormatError(
                f"{path}: expected pixels of a class or to be ignored, as {FILE} says, got {what} {got} at row {y}, "
                f"column {x}, of {int(unknown.sum())} unknown pixels; add it to classes or to ignore there, or correct "
                "the mask"
            )
        return torch.from_numpy(classes[places])


def packed(colours: np.ndarray) -> np.ndarray:
    """RGB (..., 3) packed into one number, int64 (...)."""
    return colours.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def labels_of(root: Path) -> LabelFile:
    """Reads `root`/labels.yaml.

    Raises:
        LayoutError: the file does not exist.
        ConfigError: its contents are invalid.
    """
    path = root / FILE
    if not path.is_file():
        raise LayoutError(
            f"{path}: expected the classes of the masks, but there is no such file; write it, such as {EXAMPLE}", [path]
        )
    return config.check(LabelFile, path)
