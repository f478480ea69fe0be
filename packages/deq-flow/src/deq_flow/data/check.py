"""Checks a data set on disk: every file that should be there, and whether each one is whole."""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2

from deq_core.experiment import checks
from deq_core.experiment.checks import Part, Problem
from deq_core.experiment.images import decode
from deq_flow.data.chairs import FlyingChairs
from deq_flow.data.hd1k import Hd1k
from deq_flow.data.headers import size_of
from deq_flow.data.io import read_flo, read_pfm
from deq_flow.data.kitti import Kitti
from deq_flow.data.sintel import Sintel
from deq_flow.data.spring import Spring, read_flo5
from deq_flow.data.things import FlyingThings

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
        thorough: whether files are also read and decoded whole, which finds damage in their middle and takes hours.

    Raises:
        ValueError: there is no such set.
    """
    if name not in PARTS:
        raise ValueError(f"expected one of the sets {', '.join(PARTS)}, got {name!r}")

    def whole(path: Path) -> None:
        size_of(path)
        if thorough:
            CONTENTS[path.suffix.lower()](path)

    readers = dict.fromkeys(CONTENTS, whole)
    return checks.check(root / FOLDERS[name], PARTS[name], readers, released=released, unit="pairs")
