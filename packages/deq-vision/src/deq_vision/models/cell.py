"""The cell f, which maps the states of all branches to the next ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deq_core as deq
from deq_vision.config import Architecture
from deq_vision.models.stem import Injection

State = tuple[Tensor, ...]
"""One tensor a branch, finest first: branch i is (B, channels[i], h / 2^i, w / 2^i)."""


class Cell(nn.Module):
    """A residual block on every branch, fusion of all branches into each, then a 1x1 convolution and a norm.

    `cell(*state, injection)` returns the next state.
    """

    def __init__(self, size: Architecture) -> None:
        super().__init__()
        widths, groups = size.channels, size.groups
        self.branches = nn.ModuleList(Block(width, size) for width in widths)
        self.fuse = nn.ModuleList(
            nn.ModuleDict(
                {str(j): bridge(widths, j, i, groups) for j in range(len(widths)) if j != i}  # from j to i
            )
            for i in range(len(widths))
        )
        self.post = nn.ModuleList(Output(width, size) for width in widths)

    def forward(self, *state_and_injection: Tensor | Injection) -> State:
        """The next state.

        Raises:
            ValueError: the number of states is not that of the branches.
        """
        *state, injection = state_and_injection
        if len(state) != len(self.branches):
            raise ValueError(
                f"f takes {len(self.branches)} branches and the injection, cell(*state, injection): got "
                f"{len(state_and_injection)} arguments"
            )
        injections = injection if isinstance(injection, tuple) else (injection, *[None] * (len(state) - 1))
        branches = [block(z, u) for block, z, u in zip(self.branches, state, injections, strict=True)]
        return tuple(post(self._joined(i, branches)) for i, post in enumerate(self.post))

    def _joined(self, i: int, branches: list[Tensor]) -> Tensor:
        """Sum of all branches, from fine to coarse, each brought to the shape of branch i."""
        bridges = self.fuse[i]
        assert isinstance(bridges, nn.ModuleDict)
        total = branches[0] if i == 0 else bridges["0"](branches[0])
        for j, branch in enumerate(branches[1:], start=1):
            total = total + (branch if i == j else bridges[str(j)](branch))
        return total


class Block(nn.Module):
    """A residual block whose last norm comes after the last ReLU; the injection enters before the second norm."""

    def __init__(self, width: int, size: Architecture) -> None:
        super().__init__()
        inner, (first, second) = size.inner(width), size.kernels
        self.conv1 = nn.Conv2d(width, inner, first, padding=first // 2, bias=False)
        self.norm1 = nn.GroupNorm(size.groups, inner)
        self.conv2 = nn.Conv2d(inner, width, second, padding=second // 2, bias=False)
        self.dropout = deq.nn.VariationalDropout(size.dropout, shared=(2, 3))
        self.norm2 = nn.GroupNorm(size.groups, width)
        self.norm3 = nn.GroupNorm(size.groups, width)

    def forward(self, z: Tensor, injection: Tensor | None) -> Tensor:
        change = self.dropout(self.conv2(torch.relu(self.norm1(self.conv1(z)))))
        change = change if injection is None else change + injection
        return self.norm3(torch.relu(self.norm2(change) + z))


class Output(nn.Module):
    """The output layers of f on one branch: ReLU, 1x1 convolution, norm."""

    def __init__(self, width: int, size: Architecture) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1, bias=False)
        self.norm = nn.GroupNorm(max(1, size.groups // 2), width, affine=size.output_affine)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(torch.relu(x)))


def bridge(widths: tuple[int, ...], source: int, target: int, groups: int) -> nn.Module:
    """The layers that bring branch `source` to the shape of branch `target`."""
    if source > target:
        return Enlarge(widths[source], widths[target], groups, factor=2 ** (source - target))
    last = target - source - 1
    return nn.Sequential(
        *(
            Halve(widths[source], widths[target] if k == last else widths[source], groups, relu=k != last)
            for k in range(target - source)
        )
    )


class Enlarge(nn.Module):
    """Upsampling to a finer branch: 1x1 convolution, norm, nearest-neighbour interpolation by `factor`."""

    def __init__(self, inputs: int, outputs: int, groups: int, factor: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.GroupNorm(groups, outputs)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.norm(self.conv(x)), scale_factor=float(self.factor), mode="nearest")


class Halve(nn.Module):
    """One strided convolution towards a coarser branch; the last of them has no ReLU."""

    def __init__(self, inputs: int, outputs: int, groups: int, *, relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm = nn.GroupNorm(groups, outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return torch.relu(x) if self.relu else x
