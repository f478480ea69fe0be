"""The fixed-point problem of some samples, and solves of it from anywhere that are watched at every evaluation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.errors import NonFiniteError

State = tuple[Tensor, ...]
"""The parts of a state, (B, ...) each."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The fixed-point problem of some samples, and what is read off its states."""

    names: Sequence[str]
    """Of the samples."""
    parts: Sequence[str]
    """Of a state."""
    f: Callable[..., State]
    zero: State
    """Where a cold solve begins."""
    answer: Callable[..., Tensor]
    """Of a state: what the network says, (B, ...)."""
    distance: Callable[[Tensor, Tensor], Tensor]
    """Of two answers, (B,), in their unit."""
    error: Callable[[Tensor], Tensor]
    """Of an answer, (B,)."""
    draw: Callable[[State, torch.Generator | None], State] | None = None
    """Random states like one that is given; None draws normal numbers of each part's size in that."""


@dataclass(frozen=True)
class Trajectory:
    """A solve that spends all of its evaluations."""

    residuals: Tensor
    """(evaluations, B, parts + 1), relative; the last is of the whole state."""
    answers: Mapping[int, Tensor]
    """After evaluations of f, of what the last of them gave: nothing is chosen among them."""
    last: State
    """What the last evaluation of f gave."""
    found: deq.Solution


def follow(problem: Problem, start: State, solver: deq.Solver, steps: int, recorded: Sequence[int]) -> Trajectory:
    """A solve from a start, watched.

    Raises:
        NonFiniteError: an answer is not finite.
    """
    residuals: list[Tensor] = []
    answers: dict[int, Tensor] = {}
    last = start

    def watched(*state: Tensor) -> State:
        nonlocal last
        last = problem.f(*state)
        residuals.append(by_part(state, last))
        if len(residuals) in recorded:
            answers[len(residuals)] = problem.answer(*last)
        return last

    stop = deq.Stop(max_steps=steps, tol=None)
    found = deq.fixed_point(watched, start, solver=solver, stop=stop, on_failure="ignore")
    for step in range(len(residuals) + 1, steps + 1):  # a solve ends early where every residual is 0
        residuals.append(residuals[-1])
        if step in recorded:
            answers[step] = problem.answer(*last)
    for step, answer in answers.items():
        finite = answer.flatten(1).isfinite().all(1).tolist()
        if not all(finite):
            raise NonFiniteError(
                f"{problem.names[finite.index(False)]}: the answer after {step} evaluations is not finite, as of a "
                "network whose weights or whose solve diverged; take another checkpoint, solver or precision"
            )
    return Trajectory(torch.stack(residuals), answers, last, found)


def by_part(state: State, fz: State) -> Tensor:
    """Relative residual of each part, then of the whole state, (B, parts + 1)."""
    relative = deq.Stop(tol=None).residual
    pairs = [(one.flatten(1), other.flatten(1)) for one, other in zip(state, fz, strict=True)]
    whole = tuple(torch.cat(side, dim=1) for side in zip(*pairs, strict=True))
    return torch.stack([relative(*pair) for pair in [*pairs, whole]], dim=1)


def elsewhere(problem: Problem, solved: State, generator: torch.Generator) -> dict[str, State]:
    """Starts besides zero, by name, given what a solve from zero ends at; there is no other of a lone sample."""
    random, _ = deq.nn.mix_initial_states(solved, 1.0, odds=(0, 0, 1), draw=problem.draw, generator=generator)
    other, _ = deq.nn.mix_initial_states(solved, 1.0, odds=(1, 0, 0), generator=generator)
    return {"random": random, **({"other": other} if len(problem.names) > 1 else {})}


def chosen(which: Tensor, first: State, second: State) -> State:
    """The states of `first` where `which` (B,) says so, and of `second`."""
    pairs = zip(first, second, strict=True)
    return tuple(torch.where(which.reshape(-1, *[1] * (one.dim() - 1)), one, other) for one, other in pairs)


def first_within(residuals: Tensor, tolerance: float) -> list[int | None]:
    """For each sample of residuals (evaluations, B) the first evaluation that is within a tolerance, if any is."""
    within = residuals <= tolerance
    steps = within.long().argmax(0) + 1
    return [int(step) if any_ else None for step, any_ in zip(steps, within.any(0), strict=True)]
