"""The head of a detector: the branches at equilibrium to a map of class scores and boxes.

The head has no anchors and one level: objects as points (CenterNet; Zhou, Wang & Krähenbühl, 2019), boxes regressed
around the points as in TTFNet (Liu et al., AAAI 2020). StreamDEQ used Faster R-CNN with a feature pyramid instead. The
reasons for the other choice:

- It is torch alone. Anchors, proposals and RoI alignment would need compiled operators, or slow copies of them.
- MDEQ's branches are solved jointly and each knows the others, so that one level at the finest branch's grid has the
  context of all; a pyramid is there to give it to networks that lack it.
- The result is one tensor on a grid, as that of segmentation. Streaming, sweeps over steps and training treat both
  alike, and what a frame costs does not depend on how much is in it.

Cell (y, x) of the map holds, for each class, the logit of being the centre of such an object; then four numbers: the
centre's place from the cell's first corner, x and y, in cells, and the logarithms of width and height in cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deq_vision.config import Architecture, Detection
from deq_vision.models.cell import State
from deq_vision.models.stem import ConvNorm

BOX = 4
PRIOR = -2.19
"""Logit of a probability of 0.1, from which scores start: nearly all cells hold no object (Lin et al., ICCV 2017)."""


class Detector(nn.Module):
    """The branches to the map (B, classes + 4, h, w) on branch 0's grid."""

    def __init__(self, size: Architecture, head: Detection) -> None:
        super().__init__()
        width, inner, momentum = sum(size.channels), head.channels, size.momentum
        self.mix = ConvNorm(width, inner, 1, momentum=momentum)
        self.score = ConvNorm(inner, inner, 3, momentum=momentum)
        self.scores = nn.Conv2d(inner, head.classes, 1)
        self.box = ConvNorm(inner, inner, 3, momentum=momentum)
        self.boxes = nn.Conv2d(inner, BOX, 1)

    def forward(self, state: State) -> Tensor:
        grid = state[0].shape[2:]
        enlarged = [F.interpolate(z, size=grid, mode="bilinear", align_corners=True) for z in state[1:]]
        x = self.mix(torch.cat([state[0], *enlarged], dim=1))
        return torch.cat([self.scores(self.score(x)) + PRIOR, self.boxes(self.box(x))], dim=1)
