"""MPI Sintel (Butler et al., ECCV 2012): an animated film in scenes, dense flow, two render passes."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.images import read_mask
from deq_core.experiment.data.layout import LayoutError, by_folder, files_in, following, require, require_size
from deq_core.experiment.download.fetch import Archive, Source
from deq_flow.data.published import Labelled, flow_set
from deq_flow.data.samples import FlowSample, PairFiles
from deq_flow.data.sets.layout import Videos

HINT = "unpack MPI-Sintel-complete.zip so that root/Sintel holds training and test"
KINDS = {"flow": ".flo", "occlusions": ".png", "invalid": ".png"}
"""Folders, and suffixes, of the training split's files of a pair's first frame."""


class Sintel(Videos):
    """Consecutive frames of each scene of `root`/Sintel/`split`/`render`, scenes and frames in sorted order.

    The test split has no published flow, so its samples are nowhere valid.

    Args:
        root: folder that contains Sintel.
        render: "clean", or "final" with motion blur, defocus and atmosphere.
        split: "training" or "test".

    Raises:
        LayoutError: a folder, frame or flow is missing.
    """

    def __init__(
        self,
        root: Path,
        render: Literal["clean", "final"] = "clean",
        split: Literal["training", "test"] = "training",
    ) -> None:
        folder = root / "Sintel" / split

        def pair(first: Path, second: Path) -> PairFiles:
            name = f"{first.parent.name}/{first.stem}"
            kinds = KINDS if split == "training" else {}
            return PairFiles(name, first, second, tuple(folder / kind / f"{name}{kinds[kind]}" for kind in kinds))

        frames = files_in(folder / render, "*/*.png", hint=HINT)
        scenes = by_folder(frames).items()
        super().__init__({scene.name: [pair(*both) for both in following(images)] for scene, images in scenes})
        if split == "training":
            flows = [pair.beside[0] for pair in self.files]
            require(flows, because="flow of the frames")
            extra = sorted(set((folder / "flow").glob("*/*.flo")) - set(flows))
            if extra:
                raise LayoutError(f"{extra[0]}: flow without its two frames in {render}; unpack the data set again")

    def __getitem__(self, index: int) -> FlowSample:
        sample = super().__getitem__(index)
        masks = [mask(path, sample.image1) for path in self.files[index].beside[1:]]
        return replace(sample, occluded=masks[0], invalid=masks[1]) if masks else sample


def mask(path: Path, image: Tensor) -> Tensor | None:
    """The mask bool (h, w) in a file, which must have the size of its image; None if there is no such file."""
    if not path.is_file():
        return None
    found = read_mask(path)
    require_size(path, found, image)
    return found


# addresses: Robust Vision Challenge, ozendelait/rvc_devkit, flow/benchmark_sintel.py; the mirror: open-mmlab/mmflow,
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
