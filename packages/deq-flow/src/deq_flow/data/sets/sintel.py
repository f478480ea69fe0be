"""MPI Sintel (Butler et al., ECCV 2012): an animated film in scenes, dense flow, two render passes."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.images import read_mask
from deq_core.experiment.data.layout import LayoutError, by_folder, files_in, following, require, require_size
from deq_core.experiment.download.fetch import Archive, Source
from deq_flow.data.published import Labelled, flow_set
from deq_flow.data.samples import FlowSample, PairFiles
from deq_flow.data.sets.layout import read_dense, read_pair, unknown_flow

HINT = "unpack MPI-Sintel-complete.zip so that root/Sintel holds training and test"


class Sintel(Dataset[FlowSample]):
    """Consecutive frames of each scene of `root`/Sintel/`split`/`render`, scenes and frames in sorted order.

    The test split has no published flow: its samples are valid nowhere.

    Args:
        root: folder that holds Sintel.
        render: "clean", or "final" with motion blur, defocus and atmosphere.
        split: "training" or "test".
        exclude_invalid: marks the pixels of the `invalid` masks as not valid. The published protocols of RAFT and
            DEQ-Flow do not, and average over all pixels.

    Raises:
        LayoutError: a folder, frame or flow is missing.
    """

    def __init__(
        self,
        root: Path,
        render: Literal["clean", "final"] = "clean",
        split: Literal["training", "test"] = "training",
        *,
        exclude_invalid: bool = False,
    ) -> None:
        self.split = split
        self.exclude_invalid = exclude_invalid
        self.folder = root / "Sintel" / split
        self.pairs: list[tuple[Path, Path]] = []
        self.scenes: dict[str, range] = {}
        frames = files_in(self.folder / render, "*/*.png", hint=HINT)
        for scene, images in by_folder(frames).items():
            start = len(self.pairs)
            self.pairs.extend(following(images))
            self.scenes[scene.name] = range(start, len(self.pairs))
        if split == "training":
            flows = [self.beside("flow", index, ".flo") for index in range(len(self))]
            require(flows, because="flow of the frames")
            extra = sorted(set((self.folder / "flow").glob("*/*.flo")) - set(flows))
            if extra:
                raise LayoutError(f"{extra[0]}: flow without its two frames in {render}; unpack the data set again")
        if exclude_invalid and not (self.folder / "invalid").is_dir():
            raise LayoutError(f"{self.folder / 'invalid'}: no such folder, but exclude_invalid needs its masks; {HINT}")
        if exclude_invalid and split == "training":
            require([self.beside("invalid", index, ".png") for index in range(len(self))], because="invalid masks")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> FlowSample:
        first, second = self.pairs[index]
        image1, image2 = read_pair(first, second)
        name = f"{first.parent.name}/{first.stem}"
        if self.split == "test":
            return FlowSample(image1, image2, *unknown_flow(image1), name)
        flow, valid = read_dense(self.beside("flow", index, ".flo"), image1)
        occluded, invalid = self.mask("occlusions", index, image1), self.mask("invalid", index, image1)
        if self.exclude_invalid and invalid is not None:
            valid = valid & ~invalid
            flow = torch.where(valid, flow, 0.0)
        return FlowSample(image1, image2, flow, valid, name, occluded, invalid)

    def files(self, index: int) -> PairFiles:
        """The files of a pair."""
        kinds = ("flow", ".flo"), ("occlusions", ".png"), ("invalid", ".png")
        return PairFiles(*self.pairs[index], tuple(self.beside(kind, index, suffix) for kind, suffix in kinds))

    def sequences(self) -> dict[str, range]:
        """The indices of each scene's pairs in order of time: the second frame of one is the first of the next."""
        return dict(self.scenes)

    def mask(self, kind: str, index: int, image: Tensor) -> Tensor | None:
        """bool (h, w) of a pair's mask of a kind (occlusions, invalid); None where there is no such file."""
        path = self.beside(kind, index, ".png")
        if not path.is_file():
            return None
        mask = read_mask(path)
        require_size(path, mask, image)
        return mask

    def beside(self, kind: str, index: int, suffix: str) -> Path:
        """The file of another kind (flow, occlusions, invalid) that belongs to the first frame of a pair."""
        frame = self.pairs[index][0]
        return self.folder / kind / frame.parent.name / f"{frame.stem}{suffix}"


# Robust Vision Challenge: ozendelait/rvc_devkit, flow/benchmark_sintel.py; the mirror: open-mmlab/mmflow,
# docs/data_prepare/Sintel/README.md
SETS = {
    "sintel": flow_set(
        folder="Sintel",
        source=Source(
            title="MPI Sintel",
            page="http://sintel.is.tue.mpg.de/downloads",
            licence="Rendered from the open film Sintel, (c) Blender Foundation | durian.blender.org, Creative Commons "
            "Attribution 3.0. Cite Butler et al., ECCV 2012. 5.3 GB packed.",
            archives=(
                Archive(
                    out="Sintel",
                    urls=(
                        "http://files.is.tue.mpg.de/sintel/MPI-Sintel-complete.zip",
                        "http://sintel.cs.washington.edu/MPI-Sintel-complete.zip",
                    ),
                ),
            ),
        ),
        parts=(
            Part("training/clean", Sintel, 1_041),
            Part("training/final", lambda root: Sintel(root, "final"), 1_041),
            Part("test/clean", lambda root: Sintel(root, split="test"), 552),
            Part("test/final", lambda root: Sintel(root, "final", "test"), 552),
        ),
        training={"sintel-clean": Sintel, "sintel-final": lambda root: Sintel(root, "final")},
        labelled={
            "sintel_clean": Labelled("Sintel clean", lambda root: Sintel(root, "clean"), steps=32, video=True),
            "sintel_final": Labelled("Sintel final", lambda root: Sintel(root, "final"), steps=32, video=True),
        },
    ),
}
