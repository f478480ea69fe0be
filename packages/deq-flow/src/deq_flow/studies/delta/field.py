"""An image as the equilibrium of a function of its coordinates: (Implicit)² (Huang et al., NeurIPS 2021)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import deq_core as deq
from deq_core.experiment.config.layer import LayerConfig


@dataclass(frozen=True, kw_only=True)
class Representation:
    """An implicit neural representation whose hidden layers define a fixed point ((Implicit)², NeurIPS 2021).

    z = f(z, x): "fourier" multiplies W z + b by sines of the coordinates x (a multiplicative filter), so f is affine
    in z; "siren" takes sin(W z + b + V x).
    """

    kind: Literal["fourier", "siren"]
    width: int
    scale: float
    """Factor of the coordinates' weights; it sets the highest frequencies at the start of training."""
    layer: LayerConfig
    """Solve and gradient of training."""
    layers: int = 1
    """Number of hidden layers in one evaluation."""
    bound: float | None = 0.97
    """Spectral norm of the hidden weights; None does not constrain it."""
    threshold: float | None = None
    """Threshold of the delta rule, as released, in the solves of training; None trains densely."""
    reuse: bool = False
    """Whether a solve of training starts from the state of the update before."""


class FieldCell(nn.Module):
    """One evaluation of the equilibrium function, given the injections of the coordinates.

    With u₀, u₁, ... injected and z₀ = z + g(u₀):  fourier  zᵢ = uᵢ (Wᵢ zᵢ₋₁ + bᵢ), g the identity;
    siren  zᵢ = sin(Wᵢ zᵢ₋₁ + bᵢ + uᵢ), g = sin.
    """

    def __init__(self, kind: Literal["fourier", "siren"], width: int, layers: int) -> None:
        super().__init__()
        self.kind = kind
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        for layer in self.layers:
            nn.init.uniform_(layer.get_parameter("weight"), -math.sqrt(1 / width), math.sqrt(1 / width))

    def forward(self, z: Tensor, first: Tensor, *injected: Tensor) -> Tensor:
        """The image of z (N, width), from one injection (N, width) for each layer and a first one."""
        if self.kind == "fourier":
            z = z + first
            for layer, u in zip(self.layers, injected, strict=True):
                z = u * layer(z)
        else:
            z = z + torch.sin(first)
            for layer, u in zip(self.layers, injected, strict=True):
                z = torch.sin(layer(z) + u)
        return z


class DEQField(nn.Module):
    """Values (N, channels) at coordinates (N, 2), a linear function of a cell's fixed point; each point is a sample.

    The coordinates' weights are initialised as in `nn.Linear`, times scale / √(layers + 1), and their biases uniformly
    from -π to π. Hidden weights have the spectral norm `bound`; the (Implicit)² release rescales only those above it,
    as all are at the start (their expected norm is 2/√3).
    """

    def __init__(self, config: Representation, channels: int) -> None:
        super().__init__()
        inputs = config.layers + 1
        self.kind, self.width, self.inputs = config.kind, config.width, inputs
        self.macs = config.layers * config.width**2  # of one evaluation at one point
        self.injection = nn.Linear(2, inputs * config.width)
        with torch.no_grad():
            self.injection.weight.mul_(config.scale / math.sqrt(inputs))
            self.injection.bias.uniform_(-math.pi, math.pi)
        self.cell = FieldCell(config.kind, config.width, config.layers)
        if config.bound is not None:
            deq.nn.spectral_norm_(self.cell, bound=config.bound, iterations=5)
        self.equilibrium = config.layer.build()
        self.output = nn.Linear(config.width, channels)

    def inject(self, coordinates: Tensor) -> tuple[Tensor, ...]:
        """The injections, the inputs of the cell besides its state: (N, width) each."""
        mapped = self.injection(coordinates)
        return (torch.sin(mapped) if self.kind == "fourier" else mapped).chunk(self.inputs, dim=-1)

    def forward(self, coordinates: Tensor, start: Tensor | None = None, cell: nn.Module | None = None) -> "FieldOutput":
        """Values at coordinates (N, 2), by the solver and gradient of training.

        Args:
            start: (N, width) initial state, zeros by default
            cell: cell to evaluate in place of the field's own, for example that of `deq_core.delta.to_delta`
        """
        injected = self.inject(coordinates)
        step = self.cell if cell is None else cell
        z0 = coordinates.new_zeros(len(coordinates), self.width) if start is None else start
        solution = self.equilibrium(lambda z: step(z, *injected), z0)
        return FieldOutput(self.output(solution.value), solution)


@dataclass(frozen=True)
class FieldOutput:
    """Values (N, channels), and the solution that they are computed from."""

    values: Tensor
    solution: deq.Solution


def coordinates(height: int, width: int) -> Tensor:
    """x and y of each pixel, row by row, (height * width, 2), each from -1 to 1."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def psnr(values: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio, dB, of values, clamped to [-1, 1], against a target in that range."""
    error = (values.clamp(-1, 1) - target).double().square().mean() / 4  # for intensities from 0 to 1
    return float(-10 * torch.log10(error))
