"""Your own set: pairs of images, or videos, with flow in any of the known formats."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from deq_core.experiment.data.checks import Part, Problem
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.data.layout import LayoutError, by_folder, files_below
from deq_core.experiment.download.fetch import Source
from deq_core.experiment.media.image_folder import IMAGES, natural
from deq_flow.data import headers
from deq_flow.data.published import CONTENTS, FlowSet, Labelled, unequal, whole
from deq_flow.data.samples import FlowSample, PairFiles
from deq_flow.data.sets.layout import Pairs, places

FLOWS = (".flo", ".flo5", ".pfm", ".png")
"""Suffixes of flow: Middlebury's, Spring's and FlyingThings3D's formats, and KITTI's 16-bit PNG."""
ROLES = {"_img1": IMAGES, "_img2": IMAGES, "_flow": FLOWS}
"""Ends of the names of a pair's files, with their suffixes."""
PAIRS = f"a pair is NAME_img1 and NAME_img2 (images) and NAME_flow ({', '.join(FLOWS)}) in one folder"
VIDEOS = "a video is the images of a folder in frames/, and flow/ has a file of the name of each but the last"


class Own(Pairs):
    """The pairs with flow below `root`, in either of two layouts.

    Pairs: NAME_img1, NAME_img2 and NAME_flow, together in `root` or in a folder of it; each folder is a scene.
    Videos, if there is a folder `root`/frames: this folder, or each folder of images in it, is a video and a scene.
    Frames are in natural order of their names. `root`/flow has the flow of each frame but the last, under the name of
    the frame, in a folder of the video's name. Other files and hidden ones are ignored.

    Flow that is NaN, or 1000 pixels or more, is unknown; in KITTI's PNG, flow that is marked so.

    Raises:
        LayoutError: there is no pair, a file of one is missing or there twice, or frames are missing within a video.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise LayoutError(f"{root}: expected a folder of pairs with flow, but there is none", [root])
        frames = root / "frames"
        super().__init__(of_videos(frames, root / "flow") if frames.is_dir() else of_names(root))
        self.root = frames if frames.is_dir() else root
        if not self.files:
            raise LayoutError(f"{root}: expected pairs with flow, got none; {PAIRS}; {VIDEOS}")

    def __getitem__(self, index: int) -> FlowSample:
        sample = super().__getitem__(index)
        if not sample.valid.any():
            raise FileFormatError(
                f"{self.files[index].beside[0]}: expected flow that is known somewhere, got none (NaN, marked as "
                "unknown, or of 1000 pixels and more); write it again, or remove the pair"
            )
        return sample

    def groups(self) -> dict[str, range]:
        """The indices of the pairs of each folder, that is, scene."""
        folders = by_folder([pair.first for pair in self.files])
        return places({folder.relative_to(self.root).as_posix(): images for folder, images in folders.items()})


def of_names(root: Path) -> Iterator[PairFiles]:
    """The pairs of the layout by names."""
    roles: dict[tuple[Path, str], dict[str, Path]] = {}
    for path in visible(root):
        for role, suffixes in ROLES.items():
            if path.stem.endswith(role) and path.suffix.lower() in suffixes:
                pair = roles.setdefault((path.parent, path.stem.removesuffix(role)), {})
                alone(path, pair.get(role))
                pair[role] = path
    missing = [
        folder / f"{name}{role}{pair[max(pair)].suffix if role != '_flow' else FLOWS[0]}"
        for (folder, name), pair in roles.items()
        for role in ROLES
        if role not in pair
    ]
    refuse(missing, PAIRS)
    for folder, name in sorted(roles, key=lambda found: (found[0].parts, natural(Path(found[1])))):
        first, second, flow = (roles[folder, name][role] for role in ROLES)
        yield PairFiles((folder / name).relative_to(root).as_posix(), first, second, (flow,))


def of_videos(frames: Path, flow: Path) -> Iterator[PairFiles]:
    """The pairs of consecutive frames of the layout by videos."""
    images = sorted((path for path in visible(frames) if path.suffix.lower() in IMAGES), key=order)
    flows: dict[Path, Path] = {}
    for path in visible(flow):
        if path.suffix.lower() in FLOWS:
            stem = path.relative_to(flow).with_suffix("")
            alone(path, flows.get(stem))
            flows[stem] = path
    pairs: list[tuple[Path, Path, Path]] = []
    for video in by_folder(images).values():
        for first, second in pairwise(video):
            alone(second, first if first.stem == second.stem else None)
            pairs.append((first, second, first.relative_to(frames).with_suffix("")))
        require_steady(video)
    refuse([flow / f"{stem}{FLOWS[0]}" for *_, stem in pairs if stem not in flows], VIDEOS)
    if left := sorted(flows.keys() - {stem for *_, stem in pairs}):
        raise LayoutError(f"{flows[left[0]]}: expected an image of that name in {frames}, and one after it; {VIDEOS}")
    for first, second, stem in pairs:
        yield PairFiles(stem.as_posix(), first, second, (flows[stem],))


def visible(folder: Path) -> list[Path]:
    """The files below a folder, without hidden ones."""
    found = [path for path in files_below(folder) if path.is_file()]
    return [path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts)]


def order(path: Path) -> tuple[tuple[str, ...], object]:
    """Sort key of files: their folder, then natural order of their names."""
    return path.parent.parts, natural(path)


def alone(path: Path, other: Path | None) -> None:
    """Raises LayoutError if another file has the same place in a pair."""
    if other is not None:
        raise LayoutError(f"{path} and {other.name}: two files for one place of a pair; remove one")


def require_steady(video: list[Path]) -> None:
    """Raises LayoutError if the numbers of frames have a gap."""
    counted = [parts for parts, _ in map(natural, video)]
    numbers = [parts[-2] for parts in counted if len(parts) > 1]
    steps = [int(second) - int(first) for first, second in pairwise(numbers)]
    for step, image in zip(steps, video[1:], strict=False):
        if len(numbers) == len(video) and step > min(steps):
            raise LayoutError(
                f"{image}: expected the frame {min(steps)} after the one before, as elsewhere in this folder, got one "
                f"{step} after it; put back what is missing, or make two folders of the video"
            )


def refuse(missing: list[Path], layout: str) -> None:
    """Raises LayoutError if files are missing."""
    if missing:
        names = ", ".join(str(path) for path in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise LayoutError(f"missing: {names}{more}; {layout}", missing)


def disagreements(root: Path) -> Iterable[Problem]:
    """Files that are not flow, and files whose size is not that of their first frame."""
    try:
        pairs = Own(root)
    except LayoutError:
        return  # reported already
    for pair in pairs.files:
        try:
            headers.flow_size(pair.beside[0])
        except (FileFormatError, OSError) as error:
            yield Problem(pair.beside[0], str(error))
    yield from unequal(PARTS, root)


PARTS = (Part("", Own),)
SETS = {
    "own": FlowSet(
        folder="",
        source=Source(
            title="your own pairs",
            page="docs/flow-data.md",
            licence="Your own data; nothing is downloaded.",
            manual=f"put them into a folder; {PAIRS}; {VIDEOS}",
        ),
        parts=PARTS,
        whole=dict.fromkeys(CONTENTS, whole),
        disagreements=disagreements,
        training={"own": Own},
        labelled={"own": Labelled("own pairs", Own)},
    )
}
