"""Cost of each gradient, and its angle to the exact one: docs/choosing-a-gradient.md.

    python -m benchmarks.core.gradients --out docs/figures

Nothing here is timed: angles, bytes and counts do not depend on the machine, up to rounding.
"""

import argparse
import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from benchmarks.core.pages import markdown, with_table
from benchmarks.core.problems import Problem, convolution
from deq_core.experiment.files import write_text
from deq_core.experiment.study.plotting import Figure, curve, figure, save

PAGE = Path(__file__).parents[2] / "docs" / "choosing-a-gradient.md"

_PLAIN, _BROYDEN = deq.FixedPointIteration(), deq.Broyden()
_FORWARD = deq.Stop(max_steps=40, tol=1e-6)
_FORTY = deq.Stop(max_steps=40, tol=None)
_TIGHT = deq.Stop(max_steps=200, tol=1e-12)
_CLOSE = deq.Implicit(stop=deq.Stop(40, 1e-6), on_failure="ignore")


@dataclass(frozen=True)
class Way:
    """A solve and its gradient."""

    adjoint: deq.Adjoint
    solver: deq.Solver | None = _BROYDEN
    stop: deq.Stop = _FORWARD


WAYS: dict[str, Way] = {
    "`Implicit()`": Way(deq.Implicit(on_failure="ignore")),
    "`Implicit(stop=Stop(40, 1e-6))`": Way(_CLOSE),
    "`Implicit(GMRES(), Stop(10, 1e-3))`": Way(deq.Implicit(deq.GMRES(), deq.Stop(10, 1e-3), on_failure="ignore")),
    "`Truncated(5)`": Way(deq.Truncated(5)),
    "`Phantom(5)`": Way(deq.Phantom(5)),
    "`Phantom(5, damping=0.5)`": Way(deq.Phantom(5, damping=0.5)),
    "`Phantom(1)`": Way(deq.Phantom(1)),
    "`JacobianFree()`": Way(deq.JacobianFree()),
    "`SHINE()`": Way(deq.SHINE()),
    "`SHINE(refine=Implicit())`": Way(deq.SHINE(refine=deq.Implicit(on_failure="ignore"))),
    "`Reversible()`, 40 steps": Way(deq.Reversible(), None, _FORTY),
    "`Unrolled()`, 40 plain steps": Way(deq.Unrolled(), _PLAIN, _FORTY),
    "`Unrolled()`, 40 Anderson steps": Way(deq.Unrolled(), deq.Anderson(), _FORTY),
}


@dataclass(frozen=True)
class Cost:
    """Cost of a gradient besides the solve.

    Attributes:
        states: bytes held between forward and backward pass, including the value, in units of one state.
        forward: number of evaluations of f outside the solve.
        backward: number of vector-Jacobian products with f.
    """

    states: float
    forward: int
    backward: int


def problem() -> Problem:
    """The contractive convolution, 4 samples of (8, 16, 16), with parameters that require gradients."""
    found = convolution((4, 8, 16, 16))
    for parameter in found.parameters:
        parameter.requires_grad_()
    return found


def losses(at: Problem) -> dict[str, Tensor]:
    """Two gradients of a loss with respect to the solution: that of |z|² / 2, and a random one independent of z."""
    with torch.no_grad():
        solution = deq.fixed_point(at.f, at.z0, solver=_BROYDEN, stop=_TIGHT, on_failure="ignore").value
    return {"along z": solution, "random": torch.randn(solution.shape, generator=_generator(), dtype=solution.dtype)}


def gradient(at: Problem, way: Way, incoming: Tensor) -> Tensor:
    """Concatenated gradients of all parameters, (parameters,)."""
    solution = deq.fixed_point(at.f, at.z0, solver=way.solver, stop=way.stop, adjoint=way.adjoint, on_failure="ignore")
    found = torch.autograd.grad((solution.value * incoming).sum(), at.parameters)
    return torch.cat([part.flatten() for part in found])


def exact(at: Problem, incoming: Tensor) -> Tensor:
    """The gradient by the implicit function theorem, with both equations solved to rounding."""
    return gradient(at, Way(deq.Implicit(deq.GMRES(), _TIGHT, on_failure="ignore"), stop=_TIGHT), incoming)


def degrees(found: Tensor, wanted: Tensor) -> float:
    """Angle between two gradients, by the arc tangent, since the arc cosine is inaccurate for small angles."""
    found, wanted = found / found.norm(), wanted / wanted.norm()
    return math.degrees(2 * math.atan2(float((found - wanted).norm()), float((found + wanted).norm())))


def cost(at: Problem, way: Way) -> Cost:
    calls = passes = 0

    def counted(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        fz = at.f(z)
        if fz.requires_grad:
            fz.register_hook(count)
        return fz

    def count(incoming: Tensor) -> None:
        nonlocal passes
        passes += 1

    packed: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        packed.update(_storage(tensor))
        return tensor

    tensors = _new_tensors()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        solution = deq.fixed_point(
            counted, at.z0, solver=way.solver, stop=way.stop, adjoint=way.adjoint, on_failure="ignore"
        )
        value, solve = solution.value, len(solution.trace)
        del solution
        held = packed | {address: size for tensor in tensors() for address, size in _storage(tensor).items()}
    for known in (at.z0, *at.parameters):
        held.pop(known.untyped_storage().data_ptr(), None)
    torch.autograd.grad(value.sum(), at.parameters)
    return Cost(sum(held.values()) / at.z0.untyped_storage().nbytes(), calls - solve, passes)


def table() -> str:
    """Table of the angles to the exact gradient for both losses, and of the costs."""
    at = problem()
    incoming = losses(at)
    wanted = {name: exact(at, direction) for name, direction in incoming.items()}
    rows = []
    for label, way in WAYS.items():
        angles = [degrees(gradient(at, way, direction), wanted[name]) for name, direction in incoming.items()]
        needs = cost(at, way)
        rows.append(
            [
                label,
                *[f"{angle:.1f}" for angle in angles],
                f"{needs.states:.0f}",
                f"{needs.forward}",
                f"{needs.backward}",
            ]
        )
    return markdown(["", *[f"angle, {name}" for name in incoming], "states held", "more f", "VJPs"], rows)


def draw(most: int = 12) -> Figure:
    """Angle against the steps of the gradient, and bytes held against the steps of the forward solve."""
    at = problem()
    drawn, panels = figure(9, 4, columns=3)
    steps = range(1, most + 1)
    ways: dict[str, Callable[[int], Way]] = {
        "Implicit, GMRES": lambda k: Way(deq.Implicit(deq.GMRES(), deq.Stop(k, None))),
        "Phantom": lambda k: Way(deq.Phantom(k)),
        "Phantom, damped by 0.5": lambda k: Way(deq.Phantom(k, damping=0.5)),
        "Unrolled, plain": lambda k: Way(deq.Unrolled(), _PLAIN, deq.Stop(k, None)),
        "SHINE": lambda k: Way(deq.SHINE()),
    }
    for axes, (name, incoming) in zip(panels, losses(at).items(), strict=False):
        wanted = exact(at, incoming)
        for label, way in ways.items():
            angles = [degrees(gradient(at, way(k), incoming), wanted) for k in steps]
            curve(axes, steps, [angles], label=label)
        axes.set_title(f"incoming gradient {name}")
        axes.set_xlabel("steps of the gradient")
        axes.set_xticks(range(0, most + 1, 2))
        axes.set_yscale("log")
        axes.set_ylim(0.05, 60)
    panels[0].set_ylabel("degrees to the exact gradient")
    lengths = (1, 2, 5, 10, 20, 40)
    held: dict[str, Callable[[int], Way]] = {
        "Implicit, GMRES": lambda k: Way(_CLOSE, stop=deq.Stop(k, None)),
        "Phantom": lambda k: Way(deq.Phantom(5), stop=deq.Stop(k, None)),
        "Phantom, damped by 0.5": lambda k: Way(deq.Phantom(5, damping=0.5), stop=deq.Stop(k, None)),
        "Unrolled, plain": ways["Unrolled, plain"],
        "SHINE": lambda k: Way(deq.SHINE(), stop=deq.Stop(k, None)),
    }
    for label, way in held.items():
        curve(panels[2], lengths, [[cost(at, way(k)).states for k in lengths]], label=label)
    panels[2].set_title("memory (5 Phantom steps)")
    panels[2].set_xlabel("evaluations of the forward solve")
    panels[2].set_ylabel("states held for the backward pass")
    panels[2].set_ylim(0, None)
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return drawn


def _storage(tensor: Tensor) -> dict[int, int]:
    """Address and bytes of a tensor's storage."""
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()}


def _new_tensors() -> Callable[[], list[Tensor]]:
    """Returns a function that lists the live tensors created since this call.

    Older objects stay frozen: to list or collect them all takes a second.
    """

    def found() -> list[Tensor]:
        gc.collect()
        return [thing for thing in gc.get_objects() if type(thing) is Tensor]

    gc.collect()
    gc.freeze()
    return found


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the figure")
    parser.add_argument("--page", type=Path, default=PAGE, help="page whose table is replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    write_text(options.page, with_table(options.page.read_text(), "gradients", table()))
    save(draw(), options.out / "gradients.svg")


if __name__ == "__main__":
    main()
