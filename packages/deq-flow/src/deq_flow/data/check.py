"""Checks a data set on disk: every file that should be there, whether each is whole, and of the size of its pair."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2

from deq_core.experiment.data import checks
from deq_core.experiment.data.checks import Part, Problem
from deq_core.experiment.data.images import FileFormatError, decode
from deq_core.experiment.data.layout import LayoutError, other_size
from deq_flow.data.headers import size_of
from deq_flow.data.io import read_flo, read_pfm
from deq_flow.data.samples import PairFiles
from deq_flow.data.sets.chairs import FlyingChairs
from deq_flow.data.sets.hd1k import Hd1k
from deq_flow.data.sets.kitti import Kitti
from deq_flow.data.sets.sintel import Sintel
from deq_flow.data.sets.spring import Spring, read_flo5
from deq_flow.data.sets.things import FlyingThings

FOLDERS: Mapping[str, str] = {
    "chairs": "FlyingChairs_release",
    "things": "FlyingThings3D",
    "sintel": "Sintel",
    "kitti": "KITTI",
    "hd1k": "HD1k",
    "spring": "spring",
}
PARTS: Mapping[str, tuple[Part, ...]] = {
    "chairs": (
        Part("data", FlyingChairs, 22_232),
        Part("data", lambda root: FlyingChairs(root, "val"), 640),
    ),
    "things": (
        Part("frames_cleanpass/TRAIN", FlyingThings, 40_302),
        Part("frames_finalpass/TRAIN", lambda root: FlyingThings(root, "final"), 40_302),
        Part("frames_cleanpass/TEST", lambda root: FlyingThings(root, split="TEST"), 7_866),
        Part("frames_finalpass/TEST", lambda root: FlyingThings(root, "final", "TEST"), 7_866),
    ),
    "sintel": (
        Part("training/clean", Sintel, 1_041),
        Part("training/final", lambda root: Sintel(root, "final"), 1_041),
        Part("test/clean", lambda root: Sintel(root, split="test"), 552),
        Part("test/final", lambda root: Sintel(root, "final", "test"), 552),
    ),
    "kitti": (Part("training", Kitti, 200), Part("testing", lambda root: Kitti(root, "testing"), 200)),
    "hd1k": (Part("hd1k_input", Hd1k),),
    "spring": (Part("train", Spring, 4_963), Part("test", lambda root: Spring(root, "test"), 990)),
}
"""Counts: the training logs of DEQ-Flow, GMA's list of the TEST split, the loaders of Sintel's and Spring's authors."""
CONTENTS: Mapping[str, Callable[[Path], object]] = {
    ".flo": read_flo,
    ".flo5": read_flo5,
    ".pfm": read_pfm,
    ".png": lambda path: decode(path, cv2.IMREAD_UNCHANGED),
    ".ppm": lambda path: decode(path, cv2.IMREAD_UNCHANGED),
}


def check(name: str, root: Path, *, released: bool = True, thorough: bool = False) -> list[Problem]:
    """What is wrong with the data set `name` below `root`; empty if it is complete and every file whole.

    Every file that a reader needs must be there, the header and length of every image and flow file of the set must
    fit each other, and both frames, flow and masks of a pair be of one size.

    Args:
        name: chairs, things, sintel, kitti, hd1k or spring.
        root: folder of the data sets.
        released: whether the numbers of pairs must be those of the release, and every split and pass be there. False
            for a miniature or a part of it, of which only what is there is checked.
        thorough: whether files are also read and decoded whole, which finds damage in their middle and takes hours.

    Raises:
        ValueError: there is no such set.
    """
    if name not in PARTS:
        raise ValueError(f"expected one of the sets {', '.join(PARTS)}, got {name!r}")

    sizes: dict[Path, tuple[int, int]] = {}

    def whole(path: Path) -> None:
        sizes[path] = size_of(path)
        if thorough:
            CONTENTS[path.suffix.lower()](path)

    readers = dict.fromkeys(CONTENTS, whole)
    parts = [replace(part, read=cache(part.read)) for part in PARTS[name]]
    problems = checks.check(root / FOLDERS[name], parts, readers, released=released, unit="pairs")
    for part in parts:
        try:
            pairs = part.read(root)
        except (FileFormatError, LayoutError):
            continue  # of which there is a problem already
        assert isinstance(pairs, PairSet)
        problems.extend(unequal((pairs.files(index) for index in range(len(pairs))), sizes))
    return list({str(problem): problem for problem in problems}.values())


@runtime_checkable
class PairSet(Protocol):
    """A set that knows the files of its pairs."""

    def __len__(self) -> int: ...

    def files(self, index: int) -> PairFiles:
        """The files of a pair."""
        ...


def unequal(pairs: Iterable[PairFiles], sizes: Mapping[Path, tuple[int, int]]) -> Iterator[Problem]:
    """The files that are not of the size of their pair's first frame; without a size are those absent or damaged."""
    for pair in pairs:
        if pair.first not in sizes:
            continue
        height, width = sizes[pair.first]
        image = "the size of its image" if pair.grid == 1 else f"{pair.grid} times the size of its image"
        others = (
            (pair.second, 1, "the size of the first frame of its pair"),
            *((path, pair.grid, image) for path in pair.beside),
        )
        for path, grid, what in others:
            expected = (grid * height, grid * width)
            if sizes.get(path, expected) != expected:
                yield Problem(path, str(other_size(path, sizes[path], expected, what=what)))
