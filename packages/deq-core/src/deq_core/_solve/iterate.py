"""The one loop: a solver's proposals, evaluated, judged and kept per sample."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._solvers import Solver
from .._solvers.scaled import scaled_to
from .convergence import Tally
from .map import Map
from .modes import in_place, in_transform, may_look
from .norms import NORMS
from .stop import Stop


@dataclass(frozen=True)
class Flat:
    """What the loop found, on flat states.

    Attributes:
        best: (B, n) the finite image with the lowest residual of every sample.
        recorded: best after each recorded evaluation.
        residual, steps, converged, trace: as in `Solution`.
        last: (z, f(z), solver memory) of the last evaluation.
    """

    best: Tensor
    recorded: list[Tensor]
    residual: Tensor
    steps: Tensor
    converged: Tensor
    trace: Tensor
    last: tuple[Tensor, Tensor, Any]


@dataclass(frozen=True, eq=False)  # hashed as an object: the compiler of torch 2.6 does so before there are fields
class Solve:
    """A solve that is to be run, with the choices made for it.

    Attributes:
        solver, stop, record: as in `fixed_point`.
        loop: `iterate`, or what is called as it is; None is `iterate`.
    """

    solver: Solver
    stop: Stop
    record: tuple[int, ...] = ()
    loop: Callable[..., Flat] | None = None

    def __call__(self, f: Map, z0: Tensor) -> Flat:
        """Runs the loop on f from z0, (B, n)."""
        with f.block():
            return (self.loop or iterate)(f, z0, self.solver, self.stop, self.record)


def iterate(f: Callable[[Tensor], Tensor], z: Tensor, solver: Solver, stop: Stop, record: Sequence[int] = ()) -> Flat:
    """Iterates `solver` on z = f(z) until `stop`.

    A sample that has converged, or whose residual is no longer finite, is left alone: what it returns is what it
    returns by itself. With a tolerance there is one host synchronisation an evaluation; without one there is none.
    """
    eager = not torch.compiler.is_compiling()
    transformed = eager and in_transform()
    look = eager and (stop.tol is not None or (z.device.type == "cpu" and not transformed))
    tally = Tally(z, stop.tol, look=look)
    memory = solver.init(z, stop.max_steps)
    room: _Room | None = None
    fz = best = z
    recorded: list[Tensor] = []
    if eager:
        f = _Guarded(f)
    for evaluation in range(1, stop.max_steps + 1):
        fz = f(z)
        if evaluation == 1:
            solver = scaled_to(z, fz, solver, look=may_look(z, waits=stop.tol is not None))
            room = _Room(solver, z) if eager and not transformed else None
        residual = stop.residual(z, fz, None if room is None else room(memory, stop))
        improved, going = tally.judge(residual)
        if improved == len(z):
            best = fz
        elif improved != 0:
            best = torch.where(tally.better[:, None], fz, best)
        if evaluation in record:
            recorded.append(best)
        if evaluation == stop.max_steps or (going == 0 and stop.tol is not None):
            break
        image = fz
        if torch.is_grad_enabled() and going != len(z):
            # A gradient of zero times what is not finite is not zero: a solver sees no such image of a graph.
            image = torch.where(tally.active[:, None], fz, z)
        proposal, memory = solver.step(z, image, memory)
        if going == len(z) or (going is None and not torch.is_grad_enabled()):
            z = proposal
        else:
            z = torch.where(tally.active[:, None], proposal, z)
    recorded += [best] * (len(record) - len(recorded))
    converged = tally.converged()
    return Flat(best, recorded, tally.lowest, tally.steps(), converged, torch.stack(tally.trace), (z, fz, memory))


class _Room:
    """Where f(z) - z is written for the residual: into the memory of a solver that wants it there, once for both."""

    def __init__(self, solver: Solver, z: Tensor) -> None:
        self._row = getattr(solver, "gap_row", None) if in_place() else None
        self._z = z
        self._scratch: Tensor | None = None

    def __call__(self, memory: Any, stop: Stop) -> Tensor:
        # Another norm might write into its argument.
        row = self._row(memory) if self._row is not None and stop.norm in NORMS else None
        if row is not None:
            return row
        if self._scratch is None:
            self._scratch = torch.empty_like(self._z)
        return self._scratch


class _Guarded:
    """f, whose images stay what they were, and which may not write into its argument.

    Result buffers that f fills again (`out=`, a CUDA graph, two in turn) would change the states kept from earlier
    calls. The first images are copied until the third call, all are once it shows that f uses a buffer again. A longer
    cycle is an error where torch counts what is written, which is not in inference mode.
    """

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        self._f = f
        self._calls = 0
        self._first: list[Tensor] = []
        self._reuses = False
        self._returned: list[tuple[weakref.ref[Tensor], int]] = []

    def __call__(self, z: Tensor) -> Tensor:
        self._calls += 1
        if z.is_inference() and self._calls == 1:
            with torch.inference_mode(False):
                z = z.clone()  # one that counts its versions; what f does to its argument it does every time
        version = None if z.is_inference() else z._version
        fz = self._f(z)
        if version is not None and z._version != version:
            raise ValueError(
                "f changed its argument in place (an nn.ReLU(inplace=True) on the state, or `z += ...`): "
                "use the out-of-place operation"
            )
        return fz if fz.requires_grad else self._kept(fz)

    def _kept(self, fz: Tensor) -> Tensor:
        if self._calls <= 3 and not self._reuses:
            # The first images are alive until here, so memory at the address of one is its own.
            self._reuses = _address(fz) in {_address(first) for first in self._first} - {None}
            self._first = [] if self._reuses or self._calls == 3 else [*self._first, fz]
        fresh = not fz.is_inference() and fz._version == 0
        if self._reuses or self._calls == 1 or (self._calls == 2 and not fresh):
            return fz.clone()
        # What f has never written into is no buffer that it fills.
        if not fresh and not fz.is_inference():
            self._unchanged(fz)
        return fz

    def _unchanged(self, fz: Tensor) -> None:
        """Raises if an image that is still in use is no longer what it was; looks after `fz` from now on."""
        returned = []
        for reference, version in self._returned:
            image = reference()
            if image is not None and image._version != version:
                raise ValueError(
                    "f overwrote the image of an earlier evaluation: it fills several buffers in turn. "
                    "Return a new tensor every time (`buffer.clone()`)"
                )
            if image is not None:
                returned.append((reference, version))
        self._returned = [*returned, (weakref.ref(fz), fz._version)]


def _address(x: Tensor) -> int | None:
    """Where the elements lie; None for tensors without memory, such as those of `torch.func`."""
    try:
        return x.data_ptr() or None
    except RuntimeError:
        return None
