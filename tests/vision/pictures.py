"""Small networks for each task, and pictures and videos for them."""

from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.media.video import Frames
from deq_vision import MDEQ, Classification, Detection, Segmentation, build
from deq_vision.demo.label_space import label_space_of
from deq_vision.demo.viewer import Viewer

HEIGHT, WIDTH = 30, 50  # no multiples of 8
HEADS = {
    "segment": Segmentation(classes=8),
    "detect": Detection(channels=8, classes=3),
    "classify": Classification(channels=(4, 4), final=8, classes=10),
}


def network(task: str = "segment") -> MDEQ:
    torch.manual_seed(1)
    return build(
        "mini-street",
        head=HEADS[task],
        channels=(8, 8),
        expansion=2,
        solver=deq.FixedPointIteration(),
        stop=deq.Stop(5, None),
    ).eval()


def viewer(task: str = "segment", **choices: object) -> Viewer:
    model = network(task)
    return Viewer(model, label_space_of(model), **choices)  # pyright: ignore[reportArgumentType]


def scene(count: int, seed: int = 0) -> list[Tensor]:
    """Waves that move to the right, uint8 RGB (3, h, w)."""
    y, x = torch.meshgrid(torch.arange(float(HEIGHT)), torch.arange(float(WIDTH)), indexing="ij")
    return [
        (127 + 100 * torch.sin((x - time) / (4 + seed) + y / 7)).byte().expand(3, -1, -1).clone()
        for time in range(count)
    ]


def as_frames(pictures: list[Tensor]) -> Frames:
    return Frames("pictures", None, len(pictures), lambda: iter(pictures))


def shorten(street: Path) -> None:
    """Leaves the first three of the thirty frames of ImageNet VID's videos, whose boxes every training measures."""
    for path in street.glob("ILSVRC/*/VID/*/*/*"):
        if path.is_file() and int(path.stem) > 2:
            path.unlink()
