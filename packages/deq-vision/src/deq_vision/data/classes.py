"""Classes of the video data sets, with their label ids and colours."""

import colorsys
from dataclasses import dataclass

import torch
from torch import Tensor

from deq_vision.data.mini.street import NAMES as STREET_NAMES
from deq_vision.data.samples import IGNORE_INDEX

Colour = tuple[int, int, int]
"""RGB, from 0 to 255."""


@dataclass(frozen=True)
class LabelSet:
    """The classes of a task with their ids in label files, in the order of the network's outputs.

    Raises:
        ValueError: the numbers of names, ids, colours and weights (if any) differ.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    colours: tuple[Colour, ...]
    """RGB, as in the published data set."""
    weights: tuple[float, ...] = ()
    """Class weights of the training loss; empty if all are equal."""

    def __post_init__(self) -> None:
        counts = {len(self.names), len(self.ids), len(self.colours), *([len(self.weights)] if self.weights else [])}
        if len(counts) != 1:
            raise ValueError(f"expected as many names, ids, colours and weights, got {sorted(counts)}")

    def __len__(self) -> int:
        return len(self.names)

    def indices(self, ids: Tensor) -> Tensor:
        """Maps label ids (h, w) to class indices, uint8 (h, w); ids of no class become `IGNORE_INDEX`."""
        table = torch.full((256,), IGNORE_INDEX, dtype=torch.uint8)
        table[list(self.ids)] = torch.arange(len(self), dtype=torch.uint8)
        return table[ids.long()]

    def label_ids(self, indices: Tensor) -> Tensor:
        """Maps class indices (h, w) to label ids, uint8 (h, w), as the benchmark needs; `IGNORE_INDEX` becomes 0."""
        table = torch.zeros(256, dtype=torch.uint8)
        table[: len(self)] = torch.tensor(self.ids, dtype=torch.uint8)
        return table[indices.long()]


def palette(count: int) -> tuple[Colour, ...]:
    """Colours that differ in hue, for classes without colours."""
    shades = [colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.75, 0.95) for index in range(count)]
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in shades)


# Names, ids and colours are those of the benchmark's evaluation (Cordts et al., CVPR 2016). HRNet (Wang et al., TPAMI
# 2020) and, after it, MDEQ were trained with these weights.
_ROWS: tuple[tuple[str, int, Colour, float], ...] = (
    ("road", 7, (128, 64, 128), 0.8373),
    ("sidewalk", 8, (244, 35, 232), 0.918),
    ("building", 11, (70, 70, 70), 0.866),
    ("wall", 12, (102, 102, 156), 1.0345),
    ("fence", 13, (190, 153, 153), 1.0166),
    ("pole", 17, (153, 153, 153), 0.9969),
    ("traffic light", 19, (250, 170, 30), 0.9754),
    ("traffic sign", 20, (220, 220, 0), 1.0489),
    ("vegetation", 21, (107, 142, 35), 0.8786),
    ("terrain", 22, (152, 251, 152), 1.0023),
    ("sky", 23, (70, 130, 180), 0.9539),
    ("person", 24, (220, 20, 60), 0.9843),
    ("rider", 25, (255, 0, 0), 1.1116),
    ("car", 26, (0, 0, 142), 0.9037),
    ("truck", 27, (0, 0, 70), 1.0865),
    ("bus", 28, (0, 60, 100), 1.0955),
    ("train", 31, (0, 80, 100), 1.0865),
    ("motorcycle", 32, (0, 0, 230), 1.1529),
    ("bicycle", 33, (119, 11, 32), 1.0507),
)
"""Name, id, colour and weight of each class."""
CITYSCAPES = LabelSet(*zip(*_ROWS, strict=True))

_PLACES = [CITYSCAPES.names.index(name) for name in STREET_NAMES]
STREET = LabelSet(
    names=STREET_NAMES,
    ids=tuple(CITYSCAPES.ids[place] for place in _PLACES),
    colours=tuple(CITYSCAPES.colours[place] for place in _PLACES),
)
"""The eight classes of the mini set, with ids and colours of Cityscapes."""

VID = {
    "n02691156": "airplane",
    "n02419796": "antelope",
    "n02131653": "bear",
    "n02834778": "bicycle",
    "n01503061": "bird",
    "n02924116": "bus",
    "n02958343": "car",
    "n02402425": "cattle",
    "n02084071": "dog",
    "n02121808": "domestic cat",
    "n02503517": "elephant",
    "n02118333": "fox",
    "n02510455": "giant panda",
    "n02342885": "hamster",
    "n02374451": "horse",
    "n02129165": "lion",
    "n01674464": "lizard",
    "n02484322": "monkey",
    "n03790512": "motorcycle",
    "n02324045": "rabbit",
    "n02509815": "red panda",
    "n02411705": "sheep",
    "n01726692": "snake",
    "n02355227": "squirrel",
    "n02129604": "tiger",
    "n04468005": "train",
    "n01662784": "turtle",
    "n04530566": "watercraft",
    "n02062744": "whale",
    "n02391049": "zebra",
}
"""The classes of ImageNet VID by their WordNet ids, in the benchmark's order."""

STREET_OBJECTS = {"n00007846": "person", "n02958343": "car", "n02924116": "bus"}
"""The classes of the mini set's objects by their WordNet ids in ImageNet DET and VID."""
