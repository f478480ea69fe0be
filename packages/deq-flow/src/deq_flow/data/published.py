"""Descriptions of published sets of flow: source, parts, protocol and checks."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2

from deq_core.experiment.data.checks import Part, Problem
from deq_core.experiment.data.images import FileFormatError, decode
from deq_core.experiment.data.layout import LayoutError, other_size
from deq_core.experiment.data.published import DataSet
from deq_core.experiment.download.fetch import Source
from deq_core.experiment.media.image_folder import IMAGES
from deq_flow.data import headers
from deq_flow.data.flo5 import read_flo5
from deq_flow.data.io import read_flo, read_pfm
from deq_flow.data.sets.layout import Pairs

FREIBURG = "https://lmb.informatik.uni-freiburg.de"
RESEARCH_ONLY = "Provided for research purposes only and without any warranty; any commercial use is prohibited."

CONTENTS: Mapping[str, Callable[[Path], object]] = {
    ".flo": read_flo,
    ".flo5": read_flo5,
    ".pfm": read_pfm,
    **dict.fromkeys(IMAGES, lambda path: decode(path, cv2.IMREAD_UNCHANGED)),
}
"""Functions that read and decode a whole file, by suffix."""


@dataclass(frozen=True)
class Labelled:
    """A part with ground truth, with the options of published evaluations."""

    title: str
    read: Callable[[Path], Pairs]
    """Function that reads its pairs from the folder of the data sets."""
    protocol: Literal["sintel", "kitti"] = "sintel"
    """Protocol by which the metrics of its samples are averaged; see `metrics.PROTOCOLS`."""
    padding: Literal["centre", "bottom"] = "centre"
    """Padding of frames to a multiple of a network's scale; see `models.padding`."""
    steps: int = 24
    """Number of iterations of RAFT and GMA, as in RAFT's evaluation; GMA's has 12 on every set."""
    video: bool = False
    """Whether its pairs are consecutive frames of videos."""


@dataclass(frozen=True, kw_only=True)
class FlowSet(DataSet):
    """A published set of flow."""

    training: Mapping[str, Callable[[Path], Pairs]]
    """Readers of the training split, or of each of its render passes, by the name of the training set."""
    labelled: Mapping[str, Labelled]
    """Parts with ground truth, by their names in evaluations."""


def flow_set(
    *,
    folder: str,
    source: Source,
    parts: tuple[Part, ...],
    training: Mapping[str, Callable[[Path], Pairs]],
    labelled: Mapping[str, Labelled],
) -> FlowSet:
    """A set that is checked for damaged files, and for frames, flow or masks of a pair that differ in size."""
    return FlowSet(
        source=source,
        folder=folder,
        parts=parts,
        whole=dict.fromkeys(CONTENTS, whole),
        disagreements=lambda root: unequal(parts, root),
        training=training,
        labelled=labelled,
    )


def whole(path: Path, *, decoded: bool) -> None:
    """Raises FileFormatError if a file's length does not fit its header; `decoded` also reads the file."""
    headers.size_of(path)
    if decoded:
        CONTENTS[path.suffix.lower()](path)


def unequal(parts: Iterable[Part], root: Path) -> Iterator[Problem]:
    """The files whose size is not that of their pair's first frame; missing and damaged files are skipped."""

    @cache
    def size(path: Path) -> tuple[int, int] | None:
        try:
            return headers.size_of(path)
        except (FileFormatError, OSError):
            return None

    for part in parts:
        try:
            pairs = part.read(root)
        except (FileFormatError, LayoutError):
            continue  # reported already
        assert isinstance(pairs, Pairs)
        for pair in pairs.files:
            first = size(pair.first)
            if first is None:
                continue
            image = "the size of its image" if pair.grid == 1 else f"{pair.grid} times the size of its image"
            others = (
                (pair.second, 1, "the size of the first frame of its pair"),
                *((path, pair.grid, image) for path in pair.beside),
            )
            for path, grid, what in others:
                expected, found = (grid * first[0], grid * first[1]), size(path)
                if found is not None and found != expected:
                    yield Problem(path, str(other_size(path, found, expected, what=what)))
