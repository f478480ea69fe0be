"""The exact gradient in constant memory, by reconstructing the states in the backward pass."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.autograd.graph import saved_tensors_hooks

from .._scope.weights import Weights
from .._solve.failure import OnFailure, announce, check_on_failure
from .._solve.iterate import Flat, Solve, iterate
from .._solve.map import Map
from .._solve.norms import measured, two_norm
from .._solve.stop import Stop
from .autograd import refuse_mapped


@dataclass(frozen=True)
class Pair:
    """The last two states, in float64, so that reconstruction loses little if f runs in float32.

    Attributes:
        current: (B, n) the state at which f is evaluated.
        previous: (B, n) the one before it.
    """

    current: Tensor
    previous: Tensor


@dataclass(frozen=True)
class Reversible:
    """The exact gradient of an iteration whose states are reconstructed in the backward pass, not stored (RevDEQ).

    McCallum, Arora & Foster, "Reversible Deep Equilibrium Models", 2025 (arXiv 2509.12917), iterate two states,
    y ← damping · y + (1 - damping) · f(z) and then z ← damping · z + (1 - damping) · f(y). With one evaluation of f a
    step this is z[k+1] = damping · z[k-1] + (1 - damping) · f(z[k]), from z[-1] = z[0] = z0, and the state before is
    reconstructed as z[k-1] = (z[k+1] - (1 - damping) · f(z[k])) / damping.

    The gradient is that of `Unrolled` for the same iteration: exact for what was computed, whether it converged or not,
    for recorded states and for z0 too, and it can be differentiated again. With a tolerance, the reconstruction of a
    sample begins where the sample stopped. Memory is that of two evaluations of f for any number of steps, plus graphs
    that hold no tensors (a custom function in f must keep its tensors by `save_for_backward`). The backward pass
    evaluates f once more a step, under the solve's masks, weights and autocast. Not for `torch.func`.

    It is its own solver, so the value is the same with and without autograd: leave `solver` out, or pass the same
    object; any other raises.

    Reconstruction multiplies rounding errors by up to 1 / damping a step. States are therefore kept in float64 even if
    f runs in float32. A damping of 0.5 then recovers the same states exactly for about 40 steps, 0.2 for about 10. The
    error is measured at z0, which is known.

    Attributes:
        damping: share of the state before last that is kept, above 0 and below 1. The paper's β is 1 - damping.
        tol: maximum distance of the reconstructed z0 from z0, relative to the norm of the solution; above 0.
        on_failure: what the backward pass does with samples beyond: "ignore", "warn" or "raise". The last two wait for
            the device.
    """

    damping: float = 0.5
    tol: float = 1e-3
    on_failure: OnFailure = "raise"
    kind: Literal["reversible"] = field(default="reversible", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 < self.damping < 1:
            raise ValueError(f"damping must be above 0 (0 reconstructs nothing) and below 1, got {self.damping!r}")
        if not self.tol > 0:
            raise ValueError(f"tol must be above 0, got {self.tol!r}")
        check_on_failure(self.on_failure)

    def init(self, z: Tensor, max_steps: int) -> Pair:
        start = z.double()
        return Pair(start, start)

    def step(self, z: Tensor, fz: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        following = torch.lerp(fz.double(), state.previous, self.damping)
        return following.to(z.dtype), Pair(following, state.current)

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        if solve.solver != self:
            raise ValueError(f"{self!r} solves by an iteration of its own, not by {solve.solver!r}")
        return _reversibly(self, f, z0, solve)


def _solve_reversibly(adjoint: Reversible, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
    reconstruction = _Reconstruction(adjoint, f, z0.detach())
    try:
        with f.block():
            flat = iterate(reconstruction, z0, _Tracking(adjoint, solve.stop, reconstruction), solve.stop, solve.record)
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        raise RuntimeError(
            "a reversible solve does not pass through torch.func transforms: use adjoint=Unrolled()"
        ) from error
    refuse_mapped(flat.best)
    reconstruction.end(flat.last[2])
    return flat.best, flat.recorded, flat


# Not compiled: hooks on saved tensors do not become part of a compiled graph.
_reversibly = cast(
    Callable[[Reversible, Map, Tensor, Solve], tuple[Tensor, list[Tensor], Flat]], _disable_dynamo(_solve_reversibly)
)


@dataclass(frozen=True)
class Tracked:
    """The iteration's memory, and where the reconstruction of each sample begins.

    Attributes:
        pair: the last two states, with their graph.
        active: (B,) whether the sample goes on.
        last: the last two states of each sample up to its end, without a graph.
        steps: (B,) number of steps that each sample has taken.
    """

    pair: Pair
    active: Tensor
    last: Pair
    steps: Tensor


@dataclass(frozen=True)
class _Tracking:
    """`Reversible` as the loop's solver, which also remembers where each sample ended."""

    adjoint: Reversible
    stop: Stop
    f: "_Reconstruction"

    def init(self, z: Tensor, max_steps: int) -> Tracked:
        pair = self.adjoint.init(z, max_steps)
        last = Pair(pair.current.detach(), pair.previous.detach())
        active = torch.ones(len(z), dtype=torch.bool, device=z.device)
        return Tracked(pair, active, last, torch.zeros_like(active, dtype=torch.long))

    def step(self, z: Tensor, fz: Tensor, state: Tracked) -> tuple[Tensor, Tracked]:
        proposal, pair = self.adjoint.step(z, fz, state.pair)
        # For a sample that has ended, the loop passes z in place of f(z).
        residual = self.stop.residual(z, self.f.fz)
        active = state.active & residual.isfinite()
        if self.stop.tol is not None:
            active = active & (residual > self.stop.tol)
        last = Pair(
            torch.where(active[:, None], pair.current.detach(), state.last.current),
            torch.where(active[:, None], pair.previous.detach(), state.last.previous),
        )
        return proposal, Tracked(pair, active, last, state.steps + active)


class _Reconstruction:
    """f with a graph that stores no tensors: those that a call would save are recomputed in the backward pass.

    The backward pass goes from the last call to the first, and so does the reconstruction of the states, each from the
    two after it. Only the first call keeps its tensors, since it computes those that all calls share (parametrised
    weights).

    Attributes:
        fz: (B, n) result of the last call, without its graph, until the solve ends.
    """

    def __init__(self, adjoint: Reversible, f: Map, z0: Tensor) -> None:
        self.fz = z0
        self._adjoint, self._f, self._z0 = adjoint, f, z0
        self._differentiable: list[bool] = []
        self._saved: list[int] = []
        self._weights: Weights | None = None
        self._last, self._steps = Pair(z0, z0), torch.empty(0)
        self._at, self._pair, self._tensors = 0, self._last, list[tuple[Tensor, int]]()

    def __call__(self, z: Tensor) -> Tensor:
        """f(z)."""
        fz = self._evaluated(z)
        self.fz = fz.detach()
        return fz

    def _evaluated(self, z: Tensor) -> Tensor:
        step = len(self._saved)
        self._differentiable.append(z.requires_grad)
        self._saved.append(0)
        if step == 0:
            fz, self._weights = self._f(z), self._f.weights()
            return fz

        def pack(tensor: Tensor) -> tuple[int, int]:
            self._saved[step] += 1
            return step, self._saved[step] - 1

        with saved_tensors_hooks(pack, self._unpack):
            return self._f(z)

    def end(self, found: Tracked) -> None:
        """Ends the solve, and sets where the reconstruction begins."""
        self.fz = self._z0
        self._last, self._steps = found.last, found.steps

    def _unpack(self, place: tuple[int, int]) -> Tensor:
        step, index = place
        if step > self._at:
            self._at, self._pair, self._tensors = len(self._saved), self._last, []
        while self._at > step:
            self._reconstruct()
        tensor, version = self._tensors[index]
        if tensor._version != version:
            raise RuntimeError(
                f"f changed in place what step {step + 1} needs for its backward pass: use out-of-place operations"
            )
        return tensor

    def _reconstruct(self) -> None:
        """Recomputes the tensors of the previous call, and the state before that call's."""
        pair, at = self._pair, self._at - 1
        moved = (self._steps > at) & (self._at < len(self._saved))
        current = torch.where(moved[:, None], pair.previous, pair.current)
        fz = self._evaluate(current, at)
        before = (pair.current - (1 - self._adjoint.damping) * fz) / self._adjoint.damping
        previous = torch.where(moved[:, None], before, pair.previous)
        self._at, self._pair = at, Pair(current, previous)
        if at == 1:
            self._check(previous)

    def _evaluate(self, current: Tensor, step: int) -> Tensor:
        self._tensors = []

        def pack(tensor: Tensor) -> None:
            self._tensors.append((tensor.detach(), tensor._version))

        with self._f.block(self._weights), torch.enable_grad(), saved_tensors_hooks(pack, _unneeded):
            z = current.to(self._f.ravel.dtype).requires_grad_(self._differentiable[step])
            fz = self._f(z).detach().double()
        if len(self._tensors) != self._saved[step]:
            raise RuntimeError(
                f"f did not repeat itself: step {step + 1} of a reversible solve saved "
                f"{self._saved[step]} tensors, and {len(self._tensors)} in the backward pass. It must do the "
                "same at every call but the first, or use adjoint=Unrolled()"
            )
        return fz

    def _check(self, start: Tensor) -> None:
        adjoint = self._adjoint
        if adjoint.on_failure == "ignore":
            return
        error = measured(two_norm, start - self._z0, look=True).over(measured(two_norm, self._last.current, look=True))
        above = (error <= adjoint.tol).logical_not()
        if bool(above.any()):
            announce(
                f"the backward pass of a reversible solve: {int(above.sum())} of {len(above)} samples came back to "
                f"another state than z0, worst by {float(error.max()):.1e} of the solution's length: their gradient "
                "is unreliable. Rounding grows from step to step: use fewer, a larger damping, or Implicit()",
                adjoint.on_failure,
            )


def _unneeded(_: None) -> Tensor:
    raise AssertionError("nothing is differentiated through a step that is made again")
