"""HD1K (Kondermann et al., CVPR workshops 2016): urban driving at 2560 x 1080, sparse flow with laser-scanned depth."""

from pathlib import Path

from torch.utils.data import Dataset

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.layout import files_in, following, require, require_size
from deq_core.experiment.download.fetch import Archive, Source
from deq_flow.data.io import read_kitti
from deq_flow.data.published import Labelled, flow_set
from deq_flow.data.samples import FlowSample, PairFiles
from deq_flow.data.sets.layout import read_pair

HINT = "unpack hd1k_input.zip and hd1k_flow_gt.zip so that root/HD1k holds hd1k_input and hd1k_flow_gt"


class Hd1k(Dataset[FlowSample]):
    """Consecutive frames of each sequence of `root`/HD1k/hd1k_input/image_2, named sequence_frame.png.

    The flow of a frame is the file of the same name in hd1k_flow_gt/flow_occ. The last frame of a sequence has flow
    too, into a frame that is not published; it is not used.

    Raises:
        LayoutError: a folder, frame or flow is missing.
    """

    def __init__(self, root: Path) -> None:
        images = root / "HD1k" / "hd1k_input" / "image_2"
        self.flows = root / "HD1k" / "hd1k_flow_gt" / "flow_occ"
        videos: dict[str, list[Path]] = {}
        for path in files_in(images, "*_*.png", hint=HINT):
            videos.setdefault(path.stem.rpartition("_")[0], []).append(path)
        self.pairs: list[tuple[Path, Path]] = []
        self.videos: dict[str, range] = {}
        for name, frames in videos.items():
            start = len(self.pairs)
            self.pairs.extend(following(frames))
            self.videos[name] = range(start, len(self.pairs))
        require([self.flows / first.name for first, _ in self.pairs], because="flow of the frames")
        stored = files_in(self.flows, "*_*.png", hint=HINT)
        require([images / path.name for path in stored], because="frames of the flow")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> FlowSample:
        first, second = self.pairs[index]
        image1, image2 = read_pair(first, second)
        path = self.flows / first.name
        flow, valid = read_kitti(path)
        require_size(path, flow, image1)
        return FlowSample(image1, image2, flow, valid, first.stem)

    def files(self, index: int) -> PairFiles:
        """The files of a pair."""
        first, second = self.pairs[index]
        return PairFiles(first, second, (self.flows / first.name,))

    def sequences(self) -> dict[str, range]:
        """The indices of each sequence's pairs in order of time: the second frame of one is the first of the next."""
        return dict(self.videos)


# Robust Vision Challenge: ozendelait/rvc_devkit, flow/benchmark_hd1k.py; the first host: the publisher's message to
# those who register, as users of the set quote it
SETS = {
    "hd1k": flow_set(
        folder="HD1k",
        source=Source(
            title="HD1K",
            page="http://hci-benchmark.iwr.uni-heidelberg.de/",
            licence="The terms are on the publisher's page. Cite Kondermann et al., CVPR workshops 2016.",
            archives=tuple(
                Archive(
                    out=f"HD1k/{name}",
                    urls=(
                        f"http://hci-benchmark.iwr.uni-heidelberg.de/media/downloads/{name}.zip",
                        f"http://hci-benchmark.org/media/downloads/{name}.zip",
                    ),
                )
                for name in ("hd1k_input", "hd1k_flow_gt")
            ),
            manual="Register to be sent the addresses.",
        ),
        parts=(Part("hd1k_input", Hd1k),),
        training={"hd1k": Hd1k},
        labelled={"hd1k": Labelled("HD1K", Hd1k, "kitti", video=True)},
    ),
}
