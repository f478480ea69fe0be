"""The fixed-point problem of a batch, and solves from any initialisation that record every evaluation."""

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
    """The fixed-point problem of a batch, with the outputs of its states."""

    names: Sequence[str]
    """Names of the samples."""
    parts: Sequence[str]
    """Names of the parts of a state."""
    f: Callable[..., State]
    zero: State
    """Initial state of a cold solve."""
    answer: Callable[..., Tensor]
    """Output of the network for a state, (B, ...)."""
    distance: Callable[[Tensor, Tensor], Tensor]
    """Distance between two answers, (B,), in their unit."""
    error: Callable[[Tensor], Tensor]
    """Error of an answer, (B,)."""
    draw: Callable[[State, torch.Generator | None], State] | None = None
    """Random states similar to a given one; None draws normal numbers scaled to each part of it."""


@dataclass(frozen=True)
class Trajectory:
    """A solve that uses all of its evaluations."""

    residuals: Tensor
    """Relative residuals (evaluations, B, parts + 1); the last is that of the whole state."""
    answers: Mapping[int, Tensor]
    """{evaluations: answer for the last f(z), not for the best state}."""
    last: State
    """Last value f(z)."""
    found: deq.Solution


def follow(problem: Problem, start: State, solver: deq.Solver, steps: int, recorded: Sequence[int]) -> Trajectory:
    """Solves from `start` with `steps` evaluations; records residuals, and answers after `recorded` evaluations.

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
    for step in range(len(residuals) + 1, steps + 1):  # a solve ends early if every residual is 0
        residuals.append(residuals[-1])
        if step in recorded:
            answers[step] = problem.answer(*last)
    for step, answer in answers.items():
        finite = answer.flatten(1).isfinite().all(1).tolist()
        if not all(finite):
            raise NonFiniteError(
                f"{problem.names[finite.index(False)]}: the answer after {step} evaluations is not finite: the "
                "network's weights or its solve diverged; take another checkpoint, solver or precision"
            )
    return Trajectory(torch.stack(residuals), answers, last, found)


def by_part(state: State, fz: State) -> Tensor:
    """Relative residuals of each part, then of the whole state, (B, parts + 1)."""
    relative = deq.Stop(tol=None).residual
    pairs = [(one.flatten(1), other.flatten(1)) for one, other in zip(state, fz, strict=True)]
    whole = tuple(torch.cat(side, dim=1) for side in zip(*pairs, strict=True))
    return torch.stack([relative(*pair) for pair in [*pairs, whole]], dim=1)


def elsewhere(problem: Problem, solved: State, generator: torch.Generator) -> dict[str, State]:
    """Initial states besides zero, by name, from the result of a solve from zero; a lone sample has no "other"."""
    random, _ = deq.nn.mix_initial_states(solved, 1.0, odds=(0, 0, 1), draw=problem.draw, generator=generator)
    other, _ = deq.nn.mix_initial_states(solved, 1.0, odds=(1, 0, 0), generator=generator)
    return {"random": random, **({"other": other} if len(problem.names) > 1 else {})}


def chosen(which: Tensor, first: State, second: State) -> State:
    """States of `first` where `which` (B,) is True, otherwise of `second`."""
    pairs = zip(first, second, strict=True)
    return tuple(torch.where(which.reshape(-1, *[1] * (one.dim() - 1)), one, other) for one, other in pairs)


def first_within(residuals: Tensor, tolerance: float) -> list[int | None]:
    """First evaluation within the tolerance for each sample of residuals (evaluations, B), None if there is none."""
    within = residuals <= tolerance
    steps = within.long().argmax(0) + 1
    return [int(step) if any_ else None for step, any_ in zip(steps, within.any(0), strict=True)]
