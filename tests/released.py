"""The problem on which the released solvers were recorded, and what they gave: `golden/solver.json`.

f(z) = tanh(z Wᵀ + x Uᵀ + b) in float64, B = 4, n = 32, z0 = 0, every tensor drawn by name.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "solver.json").read_text())


def named(name, *shape):
    """A normal tensor seeded by its name."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(*shape, generator=generator, dtype=torch.float32).double()


class Golden:
    """f, what it closes over, and the loss's cotangent."""

    def __init__(self):
        weight = named("solver.W", 32, 32)
        weight = weight + 0.6 * weight.T
        self.W = (weight * (0.9 / torch.linalg.matrix_norm(weight, 2))).requires_grad_()
        self.U = (named("solver.U", 32, 16) / 16).requires_grad_()
        self.b = (0.1 * named("solver.b", 32)).requires_grad_()
        self.x = named("solver.x", 4, 16).requires_grad_()
        self.c = named("solver.c", 4, 32)
        self.z0 = torch.zeros(4, 32, dtype=torch.float64)
        self.seen = []

    def f(self, z):
        self.seen.append(z.detach())
        return torch.tanh(z @ self.W.T + self.x @ self.U.T + self.b)

    def loss(self, states):
        """Of the i-th state i · <c, z>, counted from 1."""
        return torch.stack([(i + 1) * (state * self.c).sum() for i, state in enumerate(states)]).sum()

    def check_gradients(self, loss, golden, tolerance):
        names = ("W", "U", "b", "x")
        found = torch.autograd.grad(loss, [getattr(self, name) for name in names])
        for name, gradient in zip(names, found, strict=True):
            expected = golden[name]
            probe = named(f"probe.{name}", *gradient.shape)
            scale = expected["norm"]
            assert gradient.norm().item() == pytest.approx(expected["norm"], rel=tolerance)
            assert (gradient * probe).sum().item() == pytest.approx(expected["dot"], abs=tolerance * 10 * scale)
            assert gradient.flatten()[:6].tolist() == pytest.approx(expected["head"], abs=tolerance * scale)
