"""FlyingThings3D (Mayer et al., CVPR 2016): objects on random paths, dense flow both ways, two render passes."""

from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.images import damaged
from deq_core.experiment.data.layout import by_folder, files_in, following, require
from deq_core.experiment.download.fetch import Archive, Source
from deq_flow.data.io import read_pfm
from deq_flow.data.published import FREIBURG, RESEARCH_ONLY, Labelled, flow_set
from deq_flow.data.samples import FlowSample, PairFiles
from deq_flow.data.sets.layout import known_flow, read_pair

HINT = (
    "unpack the frames and optical_flow archives so that root/FlyingThings3D holds frames_cleanpass, "
    "frames_finalpass and optical_flow"
)
DIRECTIONS = {"into_future": "OpticalFlowIntoFuture", "into_past": "OpticalFlowIntoPast"}


class FlyingThings(Dataset[FlowSample]):
    """Pairs of the left camera in `root`/FlyingThings3D: all forwards in time, then all backwards.

    Flow is that of optical_flow/`split`/*/*/into_future/left and into_past/left, matched to the frames by number. With
    the whole release, TRAIN has 40,302 pairs and TEST 7,866 of each pass.

    Args:
        root: folder that holds FlyingThings3D.
        render: "clean", or "final" with motion blur and defocus.
        split: "TRAIN" or "TEST".

    Raises:
        LayoutError: a folder, frame or flow is missing.
    """

    def __init__(
        self, root: Path, render: Literal["clean", "final"] = "clean", split: Literal["TRAIN", "TEST"] = "TRAIN"
    ) -> None:
        frames = root / "FlyingThings3D" / f"frames_{render}pass" / split
        flows = root / "FlyingThings3D" / "optical_flow" / split
        videos = by_folder(files_in(frames, "*/*/left/*.png", hint=HINT))
        self.pairs: list[tuple[Path, Path]] = []
        self.flows: list[Path] = []
        self.videos: dict[str, list[int]] = {}
        for direction, prefix in DIRECTIONS.items():
            for video, images in videos.items():
                scene = video.parent.relative_to(frames)
                pairs = following(images)
                if direction == "into_past":
                    pairs = [(second, first) for first, second in pairs]
                folder = flows / scene / direction / "left"
                indices = range(len(self.pairs), len(self.pairs) + len(pairs))
                self.videos.setdefault(str(scene), []).extend(indices)
                self.flows.extend(folder / f"{prefix}_{first.stem}_L.pfm" for first, _ in pairs)
                self.pairs.extend(pairs)
        require(self.flows, because="flow of the frames")
        # the first and the last frame of a video would not be missed by their neighbours
        stored = files_in(flows, "*/*/*/left/*.pfm", hint=HINT)
        described = {frames / path.parents[2].relative_to(flows) / "left" / f"{frame_of(path)}.png" for path in stored}
        require(sorted(described), because="frames of the flow")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> FlowSample:
        first, second = self.pairs[index]
        image1, image2 = read_pair(first, second)
        path = self.flows[index]
        values = read_pfm(path)
        if len(values) != 3:
            raise damaged(path, "three channels, of which the third is not used", f"{len(values)}")
        scene = "/".join(first.parts[-4:-2])
        name = f"{scene}/{first.stem}-{second.stem}"
        return FlowSample(image1, image2, *known_flow(path, values[:2], image1), name)

    def groups(self) -> dict[str, list[int]]:
        """The indices of each video's pairs, those of both directions, by its name."""
        return self.videos

    def files(self, index: int) -> PairFiles:
        """The files of a pair."""
        return PairFiles(*self.pairs[index], (self.flows[index],))


def frame_of(flow: Path) -> str:
    """The frame a flow file starts from: 0006 of OpticalFlowIntoFuture_0006_L.pfm."""
    return flow.stem.removesuffix("_L").rpartition("_")[2]


THINGS = f"{FREIBURG}/data/SceneFlowDatasets_CVPR16/Release_april16/data/FlyingThings3D"
# open-mmlab/mmflow, docs/en/data_prepare/FlyingThings3d/README.md, names the torrents, beside which the archives
# lie; the terms are those of the publisher's page
SETS = {
    "things": flow_set(
        folder="FlyingThings3D",
        source=Source(
            title="FlyingThings3D",
            page=f"{FREIBURG}/resources/datasets/SceneFlowDatasets.en.html",
            licence=f"{RESEARCH_ONLY} Cite Mayer et al., CVPR 2016. The clean pass is 37 GB, the flow 311 GB, packed.",
            archives=(
                Archive(
                    out="FlyingThings3D/frames_cleanpass",
                    urls=(f"{THINGS}/raw_data/flyingthings3d__frames_cleanpass.tar",),
                ),
                Archive(
                    out="FlyingThings3D/frames_finalpass",
                    urls=(f"{THINGS}/raw_data/flyingthings3d__frames_finalpass.tar",),
                ),
                Archive(
                    out="FlyingThings3D/optical_flow",
                    urls=(f"{THINGS}/derived_data/flyingthings3d__optical_flow.tar.bz2",),
                ),
            ),
            manual="The page offers the same archives as torrents, which are faster.",
        ),
        parts=(
            Part("frames_cleanpass/TRAIN", FlyingThings, 40_302),
            Part("frames_finalpass/TRAIN", lambda root: FlyingThings(root, "final"), 40_302),
            Part("frames_cleanpass/TEST", lambda root: FlyingThings(root, split="TEST"), 7_866),
            Part("frames_finalpass/TEST", lambda root: FlyingThings(root, "final", "TEST"), 7_866),
        ),
        training={"things-clean": FlyingThings, "things-final": lambda root: FlyingThings(root, "final")},
        labelled={
            "things_clean": Labelled("FlyingThings3D clean, test", lambda root: FlyingThings(root, "clean", "TEST")),
            "things_final": Labelled("FlyingThings3D final, test", lambda root: FlyingThings(root, "final", "TEST")),
        },
    ),
}
