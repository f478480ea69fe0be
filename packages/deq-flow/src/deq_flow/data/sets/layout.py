"""The base of the data sets: pairs of frames in files, with their flow."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.utils.data import Dataset

from deq_core.experiment.data.images import damaged, read_image
from deq_core.experiment.data.layout import require_size
from deq_flow.data.flo5 import read_flo5
from deq_flow.data.io import read_flo, read_kitti, read_pfm
from deq_flow.data.samples import FlowSample, PairFiles

LIMIT = 1000.0  # pixels; dense sets mark unknown motion by larger components


class Pairs(Dataset[FlowSample]):
    """Pairs of frames, each with the flow in the first of its further files; without one it is nowhere valid."""

    def __init__(self, files: Iterable[PairFiles]) -> None:
        self.files = list(files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> FlowSample:
        pair = self.files[index]
        image1, image2 = read_image(pair.first), read_image(pair.second)
        require_size(pair.second, image2, image1, what="the size of the frame before")
        flow, valid = read_flow(pair, image1) if pair.beside else unknown_flow(image1)
        return FlowSample(image1, image2, flow, valid, pair.name)


class Videos(Pairs):
    """Pairs of consecutive frames, video by video."""

    def __init__(self, videos: Mapping[str, Sequence[PairFiles]]) -> None:
        super().__init__(pair for pairs in videos.values() for pair in pairs)
        self.videos = places(videos)

    def sequences(self) -> dict[str, range]:
        """The indices of each video's pairs in temporal order: the second frame of one is the first of the next."""
        return self.videos


def places(groups: Mapping[str, Sized]) -> dict[str, range]:
    """The indices of the members of each group, numbered across all groups."""
    ends = pairwise(accumulate(map(len, groups.values()), initial=0))
    return {name: range(*between) for name, between in zip(groups, ends, strict=True)}


def read_flow(pair: PairFiles, image: Tensor) -> tuple[Tensor, Tensor]:
    """Flow (2, h, w) of a pair, in any format, and bool (h, w): where it is known.

    KITTI's PNG marks known pixels. In other formats they are those with both components below 1000 pixels, and not NaN.

    Raises:
        FileFormatError: the file is damaged, or its size is not that of its image.
    """
    path = pair.beside[0]
    match path.suffix.lower():
        case ".png":
            flow, valid = read_kitti(path)
            require_size(path, flow, image)
            return flow, valid
        case ".pfm":
            values = read_pfm(path)
            if len(values) != 3:
                raise damaged(path, "three channels, of which the third is not used", f"{len(values)}")
            flow = values[:2]
        case ".flo5":
            flow = read_flo5(path)[:, :: pair.grid, :: pair.grid]
        case _:
            flow = read_flo(path)
    require_size(path, flow, image)
    valid = (flow.abs() < LIMIT).all(dim=0)
    return torch.where(valid, flow, 0.0), valid


def unknown_flow(image: Tensor) -> tuple[Tensor, Tensor]:
    """Zero flow and validity False, for pairs without published flow."""
    size = image.shape[-2:]
    return torch.zeros(2, *size), torch.zeros(size, dtype=torch.bool)
