"""StreamDEQ (Ertenli, Akbas & Cinbis, ECCV 2022): a model on video, each solve started at the last frame's state."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import deq_core as deq
from deq_vision.config import Numerics
from deq_vision.models.cell import State
from deq_vision.models.mdeq import MDEQ
from deq_vision.models.stem import Injection

VIDEO = "video"
"""Default name of a single stream."""


@dataclass(frozen=True)
class StreamOutput:
    """Output for one frame of each of some streams, without gradients."""

    logits: Tensor | None
    """Output of the model's head; None without a head."""
    state: State
    """The branches."""
    residual: Tensor
    """(b,): residual of the state; see `deq_core.Solution`."""
    evaluations: Tensor
    """int64 (b,): number of evaluations of f that the frame needed, including those before a scene cut was detected."""
    cold: Tensor
    """bool (b,): whether the frame started from zeros: the first of a stream, of another size, or after a scene cut."""
    nfe: int
    """Number of evaluations of f for the batch, each on all of it or on a part."""


class StreamDEQ:
    """A model that keeps the state of each stream from frame to frame.

        stream = StreamDEQ(model, deq.Stop(max_steps=2, tol=None))
        for frame in frames:                            # normalised, (1, 3, H, W)
            output = stream(frame)

    A batch holds one frame of each of some streams, in any order; streams may begin and end at any time. The output of
    a stream does not depend on the others. K evaluations are K calls of f: with one, the result is f at the last state.

    Args:
        model: MDEQ in evaluation mode; it is not changed.
        stop: stopping rule for a frame. Without a tolerance each frame gets `max_steps` evaluations, as in the paper;
            with one, as many as it needs.
        first: stopping rule for a frame that starts from zeros; `stop` if None, as in the paper.
        warm: whether frames start from the last state. If False, all start from zeros: the paper's baseline.
        cut: ratio, above 1, of the first evaluation's residual to the usual one that marks a scene cut: the state is
            dropped and the frame solved again from zeros. None detects no cuts. See `deq_core.nn.Stream`.
        solver: solver, in place of the model's.
        numerics: "core" by default, even if the model has others: it keeps the streams of a batch independent, and K
            evaluations are K. "released" reproduces the release: K + 1 evaluations of Broyden's method, one stream at a
            time.

    Raises:
        ValueError: the model is in training mode, or `cut` is not above 1 or given without `warm`.
    """

    def __init__(
        self,
        model: MDEQ,
        stop: deq.Stop,
        *,
        first: deq.Stop | None = None,
        warm: bool = True,
        cut: float | None = None,
        solver: deq.Solver | None = None,
        numerics: Numerics = "core",
    ) -> None:
        if model.training:
            raise ValueError("the model must be in evaluation mode: call eval() on it")
        if cut is not None and not warm:
            raise ValueError(f"cut needs warm: frames that begin at zeros have no cut, got cut {cut}, warm False")
        self.model = model
        self.solver = solver or model.equilibrium.solver
        self.numerics: Numerics = numerics
        self.stop = stop
        self.first = first or stop
        self.warm = warm
        self._stream = deq.nn.Stream(cut)

    @torch.no_grad()
    def __call__(self, images: Tensor, names: Sequence[Hashable] = (VIDEO,)) -> StreamOutput:
        """The output for normalised images (b, 3, H, W), one of each of the streams `names`.

        Raises:
            ValueError: not one distinct name per image, or more than one stream with released numerics.
        """
        if len(names) != len(images) or len(set(names)) != len(names):
            raise ValueError(f"expected {len(images)} different names, one an image, got {list(names)}")
        if self.numerics == "released" and len(names) > 1:
            raise ValueError(f"released numerics mix the samples of a batch: one stream at a time, got {list(names)}")
        injection = self.model.inject(images)
        previous = self._stream.state(names) if self.warm else None
        start = self.model.start(injection, previous)
        cold = began_cold(previous, start)
        frame = _Frame(injection, start, tuple(names), [torch.empty_like(z) for z in start], cold)
        if self.first == self.stop:
            self._solve(frame, list(range(len(names))), self.stop)
        else:
            for stop, rows in ((self.stop, frame.rows(cold=False)), (self.first, frame.rows(cold=True))):
                self._solve(frame, rows, stop)
        head = self.model.head
        state = tuple(frame.value)
        return StreamOutput(
            logits=None if head is None else head(state),
            state=state,
            residual=frame.residual,
            evaluations=frame.evaluations,
            cold=torch.tensor(cold, device=images.device),
            nfe=frame.nfe,
        )

    def end(self, name: Hashable = VIDEO) -> None:
        """Forgets a stream, whose next frame then starts from zeros."""
        self._stream.forget(name)

    def _solve(self, frame: "_Frame", rows: list[int], stop: deq.Stop) -> None:
        """Solves some rows of a batch, and those at a scene cut again from zeros."""
        if not rows:
            return
        f, start = self.model.map(frame.injection_of(rows)), frame.start_of(rows)
        if self.numerics == "released":
            solution = deq.compat.released_fixed_point(f, start, solver=self.solver, stop=stop)
        else:
            # Missing the tolerance is normal here: a stream has few steps per frame, and continues from their result.
            solution = deq.fixed_point(f, start, solver=self.solver, stop=stop, on_failure="ignore")
        frame.keep(solution, rows, counted_alone=self.numerics == "core")
        if not self.warm:
            return
        names = [frame.names[row] for row in rows]
        for row, name in zip(rows, names, strict=True):
            if frame.cold[row]:
                self._stream.forget(name)  # the usual residual at another size does not apply
        cuts = self._stream.update(solution, names).tolist()
        again = [row for row, cut in zip(rows, cuts, strict=True) if cut]
        for row in again:
            frame.cold[row] = True
            for z in frame.start:
                z[row] = 0
        self._solve(frame, again, self.first)


def began_cold(previous: State | None, start: State) -> list[bool]:
    """Whether each row of `start`, made from `previous` by `warm_start`, is zeros because it had no previous state."""
    if previous is None or any(old.shape != new.shape for old, new in zip(previous, start, strict=True)):
        return [True] * len(start[0])
    return previous[0].flatten(1)[:, 0].isnan().tolist()  # the whole row is NaN for an unknown stream


class _Frame:
    """Inputs and combined results of the solves of one batch."""

    def __init__(
        self, injection: Injection, start: State, names: tuple[Hashable, ...], value: list[Tensor], cold: list[bool]
    ) -> None:
        self.injection, self.start, self.names, self.value, self.cold = injection, start, names, value, cold
        self.residual = start[0].new_zeros(len(names))
        self.evaluations = torch.zeros(len(names), dtype=torch.long, device=start[0].device)
        self.nfe = 0

    def rows(self, *, cold: bool) -> list[int]:
        """The rows that start from zeros, or those that do not."""
        return [row for row, value in enumerate(self.cold) if value == cold]

    def injection_of(self, rows: list[int]) -> Injection:
        """The injection of some rows."""
        if len(rows) == len(self.names):
            return self.injection
        return self.injection[rows] if isinstance(self.injection, Tensor) else tuple(u[rows] for u in self.injection)

    def start_of(self, rows: list[int]) -> State:
        """The initial state of some rows."""
        return self.start if len(rows) == len(self.names) else tuple(z[rows] for z in self.start)

    def keep(self, solution: deq.Solution, rows: list[int], *, counted_alone: bool) -> None:
        """Writes the solution of some rows into the result of the batch."""
        if len(rows) == len(self.names):
            self.value, self.residual = list(solution.value), solution.residual
        else:
            for whole, part in zip(self.value, solution.value, strict=True):
                whole[rows] = part
            self.residual = self.residual.clone()
            self.residual[rows] = solution.residual
        made = torch.full_like(solution.steps, solution.nfe)
        self.evaluations[rows] += torch.where(solution.converged, solution.steps, made) if counted_alone else made
        self.nfe += solution.nfe
