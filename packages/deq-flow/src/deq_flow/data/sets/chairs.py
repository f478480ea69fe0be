"""FlyingChairs (Dosovitskiy et al., ICCV 2015): rendered chairs over photographs, dense flow."""

from pathlib import Path
from typing import Literal

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.layout import LayoutError, files_in, require
from deq_core.experiment.download.fetch import Archive, Source
from deq_core.experiment.reading import read_text
from deq_flow.data.published import FREIBURG, RESEARCH_ONLY, Labelled, flow_set
from deq_flow.data.samples import PairFiles
from deq_flow.data.sets.layout import Pairs

SPLITS = {"train": "1", "val": "2"}
HINT = "unpack FlyingChairs.zip so that root/FlyingChairs_release/data holds 00001_img1.ppm and so on"


class FlyingChairs(Pairs):
    """The pairs of one split of `root`/FlyingChairs_release/data.

    The split file is `root`/chairs_split.txt or `root`/FlyingChairs_release/chairs_split.txt. It has one line for each
    pair, 1 for training or 2 for validation (22,232 and 640 in the released file).

    Raises:
        LayoutError: a folder, a frame or the split file is missing, or the split file does not fit the pairs.
    """

    def __init__(self, root: Path, split: Literal["train", "val"] = "train") -> None:
        folder = root / "FlyingChairs_release" / "data"
        flows = files_in(folder, "*_flow.flo", hint=HINT)
        marks = read_split(root, pairs=len(flows))
        stems = [path.name.removesuffix("_flow.flo") for path in flows]
        super().__init__(
            PairFiles(stem, folder / f"{stem}_img1.ppm", folder / f"{stem}_img2.ppm", (flow,))
            for stem, flow, mark in zip(stems, flows, marks, strict=True)
            if mark == SPLITS[split]
        )
        frames = [frame for pair in self.files for frame in (pair.first, pair.second)]
        require(frames, because="every flow needs its two frames")


def read_split(root: Path, *, pairs: int) -> list[str]:
    """The mark of each pair in the split file, "1" (training) or "2" (validation)."""
    places = [root / "chairs_split.txt", root / "FlyingChairs_release" / "chairs_split.txt"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise LayoutError(
            f"{places[0]}: the split of FlyingChairs is missing (nor is there {places[1]}); it is the released "
            "FlyingChairs_train_val.txt, one 1 (train) or 2 (val) a line"
        )
    marks = read_text(path, LayoutError).split()
    wrong = sorted(set(marks) - set(SPLITS.values()))
    if wrong:
        raise LayoutError(
            f"{path}: expected lines of 1 (train) or 2 (val), got {', '.join(repr(mark[:20]) for mark in wrong[:3])}"
        )
    if len(marks) != pairs:
        raise LayoutError(
            f"{path}: expected {pairs} lines, one for each *_flow.flo, got {len(marks)}; "
            "the split and the pairs must be of one release"
        )
    return marks


# addresses: open-mmlab/mmflow, docs/data_prepare/FlyingChairs/README.md; licence: README in the archive
SETS = {
    "chairs": flow_set(
        folder="FlyingChairs_release",
        source=Source(
            title="FlyingChairs",
            page=f"{FREIBURG}/resources/datasets/FlyingChairs.en.html",
            licence=f"{RESEARCH_ONLY} Cite Dosovitskiy et al., ICCV 2015.",
            archives=(
                Archive(out="FlyingChairs_release", urls=(f"{FREIBURG}/data/FlyingChairs/FlyingChairs.zip",)),
                Archive(
                    out="chairs_split.txt",
                    urls=(f"{FREIBURG}/resources/datasets/FlyingChairs/FlyingChairs_train_val.txt",),
                ),
            ),
        ),
        parts=(
            Part("data", FlyingChairs, 22_232),
            Part("data", lambda root: FlyingChairs(root, "val"), 640),
        ),
        training={"chairs": FlyingChairs},
        labelled={"chairs": Labelled("FlyingChairs, validation", lambda root: FlyingChairs(root, "val"))},
    ),
}
