"""Spring (Mehl et al., CVPR 2023): an animated film at 1920 x 1080, dense flow at twice that resolution."""

from pathlib import Path
from typing import Literal

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.layout import by_folder, files_in, following, require
from deq_core.experiment.download.fetch import Source
from deq_flow.data.published import Labelled, flow_set
from deq_flow.data.samples import PairFiles
from deq_flow.data.sets.layout import Videos

HINT = "unpack the frame_left and flow_FW_left archives so that root/spring holds train and test"
GRID = 2  # number of points of the flow for each pixel of a frame, along either side


class Spring(Videos):
    """Consecutive frames of the left camera in `root`/spring/`split`, forwards in time.

    Flow is stored for a grid of 3840 x 2160 points, in pixels of the frames. As in the publisher's own loader
    (github.com/cv-stuttgart), every second point of every second row is used. The test split has no published flow, so
    its samples are nowhere valid.

    Args:
        root: folder that contains spring.
        split: "train" or "test".

    Raises:
        LayoutError: a folder, frame or flow is missing.
    """

    def __init__(self, root: Path, split: Literal["train", "test"] = "train") -> None:
        folder = root / "spring" / split

        def pair(first: Path, second: Path) -> PairFiles:
            flow = (flow_of(first),) if split == "train" else ()
            return PairFiles(f"{first.parents[1].name}/{first.stem}", first, second, flow, grid=GRID)

        videos = by_folder(files_in(folder, "*/frame_left/frame_left_*.png", hint=HINT)).items()
        super().__init__({video.parent.name: [pair(*both) for both in following(frames)] for video, frames in videos})
        if split == "train":
            require([pair.beside[0] for pair in self.files], because="flow of the frames")
            stored = files_in(folder, "*/flow_FW_left/flow_FW_left_*.flo5", hint=HINT)
            frames = [path.parents[1] / "frame_left" / f"frame_left_{path.stem[-4:]}.png" for path in stored]
            require(frames, because="frames of the flow")


def flow_of(frame: Path) -> Path:
    """The file with the flow of a frame."""
    number = frame.stem.removeprefix("frame_left_")
    return frame.parents[1] / "flow_FW_left" / f"flow_FW_left_{number}.flo5"


SETS = {
    "spring": flow_set(
        folder="spring",
        source=Source(
            title="Spring",
            page="https://spring-benchmark.org/",
            licence="Creative Commons Attribution 4.0. Cite Mehl et al., CVPR 2023.",
            manual="download train_frame_left.zip (12 GB) and train_flow_FW_left.zip (44 GB), for the benchmark also "
            "the test frames, and unpack them so that spring/train/0001/frame_left lies in the folder of the data.",
        ),
        parts=(Part("train", Spring, 4_963), Part("test", lambda root: Spring(root, "test"), 990)),
        training={},
        labelled={"spring": Labelled("Spring", Spring, video=True)},
    ),
}
