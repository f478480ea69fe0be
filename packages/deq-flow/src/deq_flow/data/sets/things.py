"""FlyingThings3D (Mayer et al., CVPR 2016): objects on random paths, dense flow both ways, two render passes."""

from pathlib import Path
from typing import Literal

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.layout import by_folder, files_in, following, require
from deq_core.experiment.download.fetch import Archive, Source
from deq_flow.data.published import FREIBURG, RESEARCH_ONLY, Labelled, flow_set
from deq_flow.data.samples import PairFiles
from deq_flow.data.sets.layout import Pairs

HINT = (
    "unpack the frames and optical_flow archives so that root/FlyingThings3D holds frames_cleanpass, "
    "frames_finalpass and optical_flow"
)
DIRECTIONS = {"into_future": "OpticalFlowIntoFuture", "into_past": "OpticalFlowIntoPast"}


class FlyingThings(Pairs):
    """Pairs of the left camera in `root`/FlyingThings3D: all forwards in time, then all backwards.

    The flow is in optical_flow/`split`/*/*/into_future/left and into_past/left, and matched to the frames by number.
    In the complete release, TRAIN has 40,302 pairs and TEST 7,866 of each pass.

    Args:
        root: folder that contains FlyingThings3D.
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
        pairs: list[PairFiles] = []
        self.videos: dict[str, list[int]] = {}
        videos = by_folder(files_in(frames, "*/*/left/*.png", hint=HINT))
        for direction, prefix in DIRECTIONS.items():
            for video, images in videos.items():
                scene = video.parent.relative_to(frames)
                for both in following(images):
                    first, second = both if direction == "into_future" else reversed(both)
                    flow = flows / scene / direction / "left" / f"{prefix}_{first.stem}_L.pfm"
                    self.videos.setdefault(str(scene), []).append(len(pairs))
                    pairs.append(PairFiles(f"{scene.as_posix()}/{first.stem}-{second.stem}", first, second, (flow,)))
        super().__init__(pairs)
        require([pair.beside[0] for pair in self.files], because="flow of the frames")
        # `following` does not notice if the first or last frame of a video is missing, but its flow shows it
        stored = files_in(flows, "*/*/*/left/*.pfm", hint=HINT)
        described = {frames / path.parents[2].relative_to(flows) / "left" / f"{frame_of(path)}.png" for path in stored}
        require(sorted(described), because="frames of the flow")

    def groups(self) -> dict[str, list[int]]:
        """The indices of each video's pairs in both directions, by its name."""
        return self.videos


def frame_of(flow: Path) -> str:
    """The number of the frame that a flow file starts from: 0006 of OpticalFlowIntoFuture_0006_L.pfm."""
    return flow.stem.removesuffix("_L").rpartition("_")[2]


THINGS = f"{FREIBURG}/data/SceneFlowDatasets_CVPR16/Release_april16/data/FlyingThings3D"
# addresses: the archives are beside the torrents of open-mmlab/mmflow,
# docs/en/data_prepare/FlyingThings3d/README.md; licence: the publisher's page
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
