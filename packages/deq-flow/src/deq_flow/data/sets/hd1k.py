"""HD1K (Kondermann et al., CVPR workshops 2016): urban driving at 2560 x 1080, sparse flow from laser-scanned depth."""

from pathlib import Path

from deq_core.experiment.data.checks import Part
from deq_core.experiment.data.layout import files_in, following, require
from deq_core.experiment.download.fetch import Archive, Source
from deq_flow.data.published import Labelled, flow_set
from deq_flow.data.samples import PairFiles
from deq_flow.data.sets.layout import Videos

HINT = "unpack hd1k_input.zip and hd1k_flow_gt.zip so that root/HD1k holds hd1k_input and hd1k_flow_gt"


class Hd1k(Videos):
    """Consecutive frames of each sequence of `root`/HD1k/hd1k_input/image_2, named sequence_frame.png.

    The flow of a frame has the same name in hd1k_flow_gt/flow_occ. The flow of the last frame of a sequence is not
    used, because its second frame is not published.

    Raises:
        LayoutError: a folder, frame or flow is missing.
    """

    def __init__(self, root: Path) -> None:
        images = root / "HD1k" / "hd1k_input" / "image_2"
        flows = root / "HD1k" / "hd1k_flow_gt" / "flow_occ"
        frames: dict[str, list[Path]] = {}
        for path in files_in(images, "*_*.png", hint=HINT):
            frames.setdefault(path.stem.rpartition("_")[0], []).append(path)
        super().__init__(
            {
                name: [PairFiles(first.stem, first, second, (flows / first.name,)) for first, second in following(of)]
                for name, of in frames.items()
            }
        )
        require([pair.beside[0] for pair in self.files], because="flow of the frames")
        stored = files_in(flows, "*_*.png", hint=HINT)
        require([images / path.name for path in stored], because="frames of the flow")


# addresses: Robust Vision Challenge, ozendelait/rvc_devkit, flow/benchmark_hd1k.py; the first host: the publisher's
# message to registered users, as quoted by them
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
            manual="Register to receive the download links.",
        ),
        parts=(Part("hd1k_input", Hd1k),),
        training={"hd1k": Hd1k},
        labelled={"hd1k": Labelled("HD1K", Hd1k, "kitti", video=True)},
    ),
}
