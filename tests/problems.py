"""Fixed points with known answers and gradients, in float64."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import deq_core as deq


@dataclass(frozen=True)
class Problem:
    """z = f(z).

    Attributes:
        f: the map; differentiable in `parameters`.
        z0: where to start.
        parameters: what f closes over.
    """

    f: Callable[..., Any]
    z0: Any
    parameters: tuple[Tensor, ...]

    def leaves(self, state: Any) -> Tensor:
        """The state's leaves side by side, (B, n)."""
        leaves = state if isinstance(state, tuple) else (state,)
        return torch.cat([leaf.flatten(1) for leaf in leaves], dim=1)

    def solution(self) -> Any:
        """The fixed point to rounding, by Newton's method on the dense Jacobian."""
        shapes = self.z0 if isinstance(self.z0, tuple) else (self.z0,)
        sizes = [leaf[0].numel() for leaf in shapes]

        def flat(z: Tensor) -> Tensor:
            parts = [p.reshape(s.shape) for p, s in zip(z.split(sizes, dim=1), shapes, strict=True)]
            image = self.f(*parts)
            return self.leaves(image)

        z = self.leaves(self.z0)
        for _ in range(30):
            with torch.no_grad():
                gap = flat(z) - z
            jacobian = torch.autograd.functional.jacobian(flat, z).reshape(z.numel(), z.numel())
            step = torch.linalg.solve(torch.eye(z.numel(), dtype=z.dtype) - jacobian, gap.flatten())
            z = z + step.reshape(z.shape)
            if step.abs().max() < 1e-15:
                break
        parts = tuple(p.reshape(s.shape) for p, s in zip(z.split(sizes, dim=1), shapes, strict=True))
        return parts if isinstance(self.z0, tuple) else parts[0]


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _contraction(seed: int, size: int, norm: float) -> Tensor:
    weight = _normal(seed, size, size)
    return weight * (norm / torch.linalg.matrix_norm(weight, 2))


def linear() -> Problem:
    """f(z) = W z + b with |W| = 0.8."""
    weight, bias = _contraction(1, 6, 0.8).requires_grad_(), _normal(2, 3, 6).requires_grad_()
    return Problem(lambda z: z @ weight.T + bias, torch.zeros_like(bias), (weight, bias))


def tanh() -> Problem:
    """f(z) = tanh(W z + x) with |W| = 0.9."""
    weight, inject = _contraction(3, 8, 0.9).requires_grad_(), _normal(4, 4, 8).requires_grad_()
    return Problem(lambda z: torch.tanh(z @ weight.T + inject), torch.zeros_like(inject), (weight, inject))


def convolution() -> Problem:
    """f(z) = tanh(K * z + x) on images."""
    kernel, inject = (0.06 * _normal(5, 2, 2, 3, 3)).requires_grad_(), _normal(6, 2, 2, 4, 5).requires_grad_()
    return Problem(
        lambda z: torch.tanh(torch.nn.functional.conv2d(z, kernel, padding=1) + inject),
        torch.zeros_like(inject),
        (kernel, inject),
    )


def pair() -> Problem:
    """Two tensors of different shapes that feed each other."""
    x, y = _normal(7, 3, 3, 4).requires_grad_(), _normal(8, 3, 5).requires_grad_()

    def f(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        from_a, from_b = a.mean(dim=(1, 2)), b.mean(dim=1)
        return 0.5 * torch.tanh(a + from_b[:, None, None] + x), 0.5 * torch.tanh(0.5 * b + from_a[:, None] + y)

    return Problem(f, (torch.zeros_like(x), torch.zeros_like(y)), (x, y))


def expanding() -> Problem:
    """f(z) = -1.5 z + tanh(V z) + b: plain iteration runs away, the equation is well posed."""
    weight, bias = _contraction(9, 5, 0.4).requires_grad_(), _normal(10, 3, 5).requires_grad_()
    return Problem(lambda z: -1.5 * z + torch.tanh(z @ weight.T) + bias, torch.zeros_like(bias), (weight, bias))


def row_wise(batch: int = 5, size: int = 12, seed: int = 0) -> tuple[Callable[..., Any], Tensor]:
    """A contraction evaluated row by row in the same order whatever the batch, so samples can be compared exactly."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(size, size, generator=generator, dtype=torch.float64)
    weight = weight * (0.9 / torch.linalg.matrix_norm(weight, 2))
    gain = torch.linspace(0.2, 1.0, batch, dtype=torch.float64)[:, None]
    inject = torch.randn(batch, size, generator=generator, dtype=torch.float64)

    def f_of(rows):
        return lambda z: torch.tanh(gain[rows] * (z[:, None, :] * weight).sum(2) + inject[rows])

    return f_of, torch.zeros(batch, size, dtype=torch.float64)


PROBLEMS = {
    "linear": linear,
    "tanh": tanh,
    "convolution": convolution,
    "pair": pair,
    "expanding": expanding,
}

SOLVERS: dict[str, deq.Solver] = {
    "iteration": deq.FixedPointIteration(),
    "damped": deq.FixedPointIteration(damping=0.1),
    "anderson": deq.Anderson(),
    "anderson-damped": deq.Anderson(window=4, damping=0.2),
    "broyden": deq.Broyden(),
    "broyden-short": deq.Broyden(memory=8),
    "broyden-searched": deq.LineSearchBroyden(),
    "type-one": deq.TypeOneAnderson(),
    "safeguarded": deq.Safeguarded(),
    "reversible": deq.Reversible(),
}

# those that solve `expanding`
ACCELERATED = (
    "anderson",
    "anderson-damped",
    "broyden",
    "broyden-short",
    "broyden-searched",
    "type-one",
    "safeguarded",
)

TIGHT = deq.Stop(max_steps=400, tol=1e-13)
