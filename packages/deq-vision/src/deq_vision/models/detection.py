"""The detection head, which maps the branches at equilibrium to class scores and boxes on one grid.

The head has no anchors and one level: objects are points (CenterNet; Zhou, Wang & Krähenbühl, 2019), with boxes
regressed around the points as in TTFNet (Liu et al., AAAI 2020). StreamDEQ used Faster R-CNN with a feature pyramid.
We chose otherwise because:

- The head needs torch alone. Anchors, proposals and RoI alignment need compiled operators, or slow replacements.
- The branches of MDEQ are solved jointly, so the finest one already has the context of all the others. A feature
  pyramid supplies that context to networks that lack it.
- The output is one tensor on a grid, as for segmentation. Streaming, sweeps over steps and training treat both
  alike, and the cost of a frame does not depend on its content.

Cell (y, x) of the map holds the logit of each class that an object of it is centred there; then four numbers: the
offset of the centre from the cell's first corner, x and y, in cells, and the logarithms of width and height in cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deq_vision.config import Architecture, Detection
from deq_vision.models.cell import State
from deq_vision.models.stem import ConvNorm

BOX = 4
PRIOR = -2.19
"""Initial logit of the scores, a probability of 0.1: nearly all cells hold no object. The idea is that of Lin et al.,
ICCV 2017, who start at 0.01."""


class Detector(nn.Module):
    """Maps the branches to scores and boxes (B, classes + 4, h, w) on the grid of branch 0."""

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
