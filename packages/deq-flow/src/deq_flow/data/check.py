"""Checks a data set on disk: every file that should be there, and whether each one is whole."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
from tqdm import tqdm

from deq_core.experiment.images import FileFormatError, decode
from deq_core.experiment.layout import LayoutError
from deq_flow.data.batches import SampleSet
from deq_flow.data.chairs import FlyingChairs
from deq_flow.data.hd1k import Hd1k
from deq_flow.data.headers import size_of
from deq_flow.data.io import read_flo, read_pfm
from deq_flow.data.kitti import Kitti
from deq_flow.data.sintel import Sintel
from deq_flow.data.spring import Spring, read_flo5
from deq_flow.data.things import FlyingThings


@dataclass(frozen=True)
class Problem:
    """Something wrong with a file or folder."""

    path: Path
    fault: str

    def __str__(self) -> str:
        return self.fault if str(self.path) in self.fault else f"{self.path}: {self.fault}"


@dataclass(frozen=True)
class Part:
    """A split or render pass of a data set."""

    place: str
    """The folder of its frames, below that of the set."""
    read: Callable[[Path], SampleSet]
    pairs: int | None = None
    """How many pairs the release has, where that is known."""


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

    Every file that a reader needs must be there, and the header and length of every image and flow file of the set
    must fit each other.

    Args:
        name: chairs, things, sintel, kitti, hd1k or spring.
        root: folder of the data sets.
        released: whether the numbers of pairs must be those of the release, and every split and pass be there. False
            for a miniature or a part of it, of which only what is there is checked.
        thorough: whether files are read and decoded whole, which finds damage in their middle and takes hours.

    Raises:
        ValueError: there is no such set.
    """
    if name not in PARTS:
        raise ValueError(f"expected one of the sets {', '.join(PARTS)}, got {name!r}")
    folder = root / FOLDERS[name]
    problems: list[Problem] = []
    present = [part for part in PARTS[name] if (folder / part.place).is_dir()]
    for part in PARTS[name]:
        if part not in present and (released or not present):
            problems.append(Problem(folder / part.place, "the folder is missing"))
    for part in present:
        try:
            pairs = len(part.read(root))
        except LayoutError as error:
            missing = [Problem(path, "missing") for path in error.missing]
            problems.extend(missing or [Problem(folder, str(error))])
        else:
            if released and part.pairs is not None and pairs != part.pairs:
                fault = f"expected {part.pairs} pairs as released, got {pairs}"
                problems.append(Problem(folder / part.place, fault))
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in CONTENTS and path.is_file())
    for path in tqdm(files, desc=f"checking {name}", unit="file", disable=None):
        try:
            CONTENTS[path.suffix.lower()](path) if thorough else size_of(path)
        except (FileFormatError, OSError) as error:
            problems.append(Problem(path, str(error)))
    return list(dict.fromkeys(problems))
