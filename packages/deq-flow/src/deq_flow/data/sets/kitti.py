"""KITTI 2015 flow (Menze and Geiger, CVPR 2015): pairs from a moving car, sparse flow from a laser scanner."""

from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.layout import files_in, require, require_size
from deq_core.experiment.download.fetch import Archive, Source
from deq_flow.data.io import KITTI_FLOW, read_kitti
from deq_flow.data.published import Labelled, flow_set
from deq_flow.data.samples import FlowSample, PairFiles
from deq_flow.data.sets.layout import read_pair, unknown_flow

HINT = "unpack data_scene_flow.zip so that root/KITTI holds training and testing"
"""Folders of KITTI and HD1K whose images are flow."""


class Kitti(Dataset[FlowSample]):
    """The pairs *_10.png, *_11.png of `root`/KITTI/`split`/image_2.

    The flow is that of flow_occ. Where flow_noc exists too, the pixels that it leaves out are `occluded`: hidden or out
    of the frame in image 2. The testing split has no published flow: its samples are valid nowhere.

    Raises:
        LayoutError: a folder, frame or flow is missing.
    """

    def __init__(self, root: Path, split: Literal["training", "testing"] = "training") -> None:
        self.split = split
        self.folder = root / "KITTI" / split
        first = files_in(self.folder / "image_2", "*_10.png", hint=HINT)
        self.names = [path.stem.removesuffix("_10") for path in first]
        require([self.folder / "image_2" / f"{name}_11.png" for name in self.names], because="second frames")
        if split == "training":
            require([self.folder / "flow_occ" / path.name for path in first], because="flow of the pairs")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> FlowSample:
        name = self.names[index]
        images = self.folder / "image_2"
        image1, image2 = read_pair(images / f"{name}_10.png", images / f"{name}_11.png")
        if self.split == "testing":
            return FlowSample(image1, image2, *unknown_flow(image1), name)
        path = self.folder / "flow_occ" / f"{name}_10.png"
        flow, valid = read_kitti(path)
        require_size(path, flow, image1)
        occluded = None
        unoccluded = self.folder / "flow_noc" / f"{name}_10.png"
        if unoccluded.is_file():
            _, seen = read_kitti(unoccluded)
            require_size(unoccluded, seen, image1)
            occluded = valid & ~seen
        return FlowSample(image1, image2, flow, valid, name, occluded)

    def files(self, index: int) -> PairFiles:
        """The files of a pair."""
        images, name = self.folder / "image_2", f"{self.names[index]}_10.png"
        second = images / f"{self.names[index]}_11.png"
        return PairFiles(images / name, second, tuple(self.folder / kind / name for kind in KITTI_FLOW))


# Robust Vision Challenge: ozendelait/rvc_devkit, flow/benchmark_kitti2015.py
SETS = {
    "kitti": flow_set(
        folder="KITTI",
        source=Source(
            title="KITTI 2015 scene flow",
            page="https://www.cvlibs.net/datasets/kitti/eval_scene_flow.php?benchmark=flow",
            licence="Creative Commons Attribution-NonCommercial-ShareAlike 3.0. Cite Menze and Geiger, CVPR 2015.",
            archives=(
                Archive(out="KITTI", urls=("https://s3.eu-central-1.amazonaws.com/avg-kitti/data_scene_flow.zip",)),
            ),
            manual="Log in and ask for the stereo 2015 / flow 2015 / scene flow 2015 data set, data_scene_flow.zip.",
        ),
        parts=(Part("training", Kitti, 200), Part("testing", lambda root: Kitti(root, "testing"), 200)),
        training={"kitti": Kitti},
        labelled={"kitti": Labelled("KITTI 2015", Kitti, "kitti", "bottom")},
    ),
}
