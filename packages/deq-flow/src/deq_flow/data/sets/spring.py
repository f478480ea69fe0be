"""Spring (Mehl et al., CVPR 2023): an animated film at 1920 x 1080, dense flow at twice that resolution."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from deq_core.experiment.data.images import FileFormatError, damaged
from deq_core.experiment.data.layout import by_folder, files_in, following, require
from deq_core.experiment.reading import decoding, require_room
from deq_flow.data.samples import FlowSample, PairFiles
from deq_flow.data.sets.layout import known_flow, read_pair, unknown_flow

HINT = "unpack the frame_left and flow_FW_left archives so that root/spring holds train and test"
GRID = 2  # points of the flow for each pixel of a frame, along either side


class Spring(Dataset[FlowSample]):
    """Consecutive frames of the left camera in `root`/spring/`split`, forwards in time.

    Flow is stored for a grid of 3840 x 2160 points, in pixels of the frames. As in the publisher's own loader
    (github.com/cv-stuttgart), every second point of every second row is taken. The test split has no published flow:
    its samples are valid nowhere.

    Args:
        root: folder that holds spring.
        split: "train" or "test".

    Raises:
        LayoutError: a folder, frame or flow is missing.
    """

    def __init__(self, root: Path, split: Literal["train", "test"] = "train") -> None:
        self.split = split
        folder = root / "spring" / split
        self.pairs: list[tuple[Path, Path]] = []
        self.scenes: dict[str, range] = {}
        for video, frames in by_folder(files_in(folder, "*/frame_left/frame_left_*.png", hint=HINT)).items():
            start = len(self.pairs)
            self.pairs.extend(following(frames))
            self.scenes[video.parent.name] = range(start, len(self.pairs))
        if split == "train":
            require([flow_of(first) for first, _ in self.pairs], because="flow of the frames")
            stored = files_in(folder, "*/flow_FW_left/flow_FW_left_*.flo5", hint=HINT)
            frames = [path.parents[1] / "frame_left" / f"frame_left_{path.stem[-4:]}.png" for path in stored]
            require(frames, because="frames of the flow")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> FlowSample:
        first, second = self.pairs[index]
        image1, image2 = read_pair(first, second)
        name = f"{first.parents[1].name}/{first.stem}"
        if self.split == "test":
            return FlowSample(image1, image2, *unknown_flow(image1), name)
        path = flow_of(first)
        return FlowSample(image1, image2, *known_flow(path, read_flo5(path)[:, ::GRID, ::GRID], image1), name)

    def files(self, index: int) -> PairFiles:
        """The files of a pair."""
        first, second = self.pairs[index]
        return PairFiles(first, second, (flow_of(first),), grid=GRID)

    def sequences(self) -> dict[str, range]:
        """The indices of each scene's pairs in order of time: the second frame of one is the first of the next."""
        return dict(self.scenes)


def flow_of(frame: Path) -> Path:
    """The flow file that starts from a frame."""
    number = frame.stem.removeprefix("frame_left_")
    return frame.parents[1] / "flow_FW_left" / f"flow_FW_left_{number}.flo5"


def read_flo5(path: Path) -> Tensor:
    """float32 (2, h, w) from an HDF5 file with a data set "flow" of shape (h, w, 2).

    Raises:
        ModuleNotFoundError: h5py is not installed.
        FileFormatError: the file holds something else, or is damaged.
    """
    with opened_flo5(path) as stored:
        require_room(path, FileFormatError, 8 * max(stored.size, math.prod(stored.chunks or ())))
        with decoding(path, FileFormatError, "whole chunks of flow"):
            flow = np.asarray(stored, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1)))


@contextmanager
def opened_flo5(path: Path) -> Iterator[Any]:
    """The data set "flow" of an HDF5 file, not yet read; raises what `read_flo5` does."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Spring's .flo5 files need h5py: pip install 'deq-flow[spring]'") from error
    with ExitStack() as opened:
        with decoding(path, FileFormatError, "a complete HDF5 file"):
            file = opened.enter_context(h5py.File(path))
            stored = file.get("flow") if isinstance(file.get("flow", getlink=True), h5py.HardLink) else None
            if not isinstance(stored, h5py.Dataset) or stored.is_virtual or stored.external:
                raise damaged(path, 'a data set "flow" (h, w, 2)', "none")
            shape, kind, missing = stored.shape, stored.dtype, unwritten(stored)
            length = stored.id.get_storage_size()
        if len(shape) != 3 or shape[2] != 2 or 0 in shape or kind.kind != "f":
            raise damaged(path, 'a data set "flow" (h, w, 2) of numbers', f"{kind} of shape {shape}")
        if length > path.stat().st_size:
            raise damaged(path, f"{path.stat().st_size} bytes of flow at most", f"a list of {length}")
        if missing:
            raise damaged(path, "flow at every point", f"{missing} of its parts missing")
        yield stored


def unwritten(stored: Any) -> int:
    """How many of a data set's chunks the file does not have, for which the library would give zeros."""
    if stored.chunks is None:
        return int(stored.id.get_storage_size() < stored.size * stored.dtype.itemsize)
    whole = math.prod(-(-size // chunk) for size, chunk in zip(stored.shape, stored.chunks, strict=True))
    return whole - stored.id.get_num_chunks()
