"""KITTI 2015 flow (Menze and Geiger, CVPR 2015): pairs from a moving car, sparse flow from a laser scanner."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.layout import files_in, require, require_size
from deq_core.experiment.download.fetch import Archive, Source
from deq_flow.data.io import KITTI_FLOW, read_kitti
from deq_flow.data.published import Labelled, flow_set
from deq_flow.data.samples import FlowSample, PairFiles
from deq_flow.data.sets.layout import Pairs

HINT = "unpack data_scene_flow.zip so that root/KITTI holds training and testing"


class Kitti(Pairs):
    """The pairs *_10.png, *_11.png of `root`/KITTI/`split`/image_2.

    The flow is that of flow_occ. If flow_noc exists too, `occluded` are the pixels that it lacks: those hidden, or
    outside the frame, in image 2. The testing split has no published flow, so its samples are nowhere valid.

    Raises:
        LayoutError: a folder, frame or flow is missing.
    """

    def __init__(self, root: Path, split: Literal["training", "testing"] = "training") -> None:
        folder = root / "KITTI" / split
        kinds = KITTI_FLOW if split == "training" else ()
        pairs = {}
        for first in files_in(folder / "image_2", "*_10.png", hint=HINT):
            name = first.stem.removesuffix("_10")
            second = first.with_name(f"{name}_11.png")
            pairs[name] = PairFiles(name, first, second, tuple(folder / kind / first.name for kind in kinds))
        super().__init__(pairs.values())
        require([pair.second for pair in self.files], because="second frames")
        require([flow for pair in self.files for flow in pair.beside[:1]], because="flow of the pairs")

    def __getitem__(self, index: int) -> FlowSample:
        sample = super().__getitem__(index)
        for path in self.files[index].beside[1:]:
            if path.is_file():
                _, seen = read_kitti(path)
                require_size(path, seen, sample.image1)
                return replace(sample, occluded=sample.valid & ~seen)
        return sample


# address: Robust Vision Challenge, ozendelait/rvc_devkit, flow/benchmark_kitti2015.py
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
