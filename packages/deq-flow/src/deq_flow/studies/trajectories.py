"""When the elements of an iterated state converge, and in how few directions it moves: for any trajectory of states."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deq_core.experiment.tables import Row, numbers

Criterion = Literal["first", "lasting"]
"""Settled at the first small change, as the release measures, or only when no larger one follows."""
CRITERIA: tuple[Criterion, ...] = ("first", "lasting")


def convergence_steps(states: Tensor, bound: Tensor | float, criterion: Criterion = "lasting") -> Tensor:
    """How many steps each element had taken when it stopped to change, long (...).

    Args:
        states: (steps, ...) the states after steps 1, 2, ... of an iteration.
        bound: the largest change from one step to the next that is none; a number, or one that fits (...).
        criterion: whether the first small change counts, or the one after which there are only small ones. A slow
            element that pauses has a small change early, so "first" finds convergence sooner, never later.

    Returns:
        1 to steps - 1, and `steps` for elements that did not settle.
    """
    if len(states) < 2:
        raise ValueError(f"expected at least 2 states, got {len(states)}")
    small = (states[1:] - states[:-1]).abs() <= bound
    if criterion == "lasting":
        small = small.flip(0).long().cumprod(0).flip(0).bool()
    never = torch.ones_like(small[:1])
    return torch.cat([small, never]).long().argmax(dim=0) + 1


def distribution(steps: Tensor, count: int) -> dict[str, float]:
    """Percentiles p5, p50 and p95 of `convergence_steps`, and the share that never settled in `count` steps.

    A percentile is the smallest step by which that share of the elements had settled; `count` means it had not.
    """
    share = histogram(steps, count).cumsum(0)
    found = {f"p{part}": float((share < part / 100 - 1e-9).sum() + 1) for part in (5, 50, 95)}
    return {**found, "unsettled": float((steps == count).double().mean())}


def histogram(steps: Tensor, count: int) -> Tensor:
    """(count,) float64: the share of elements that settled after 1, 2, ..., count steps."""
    return torch.bincount(steps.flatten() - 1, minlength=count).double() / steps.numel()


@dataclass(frozen=True)
class Components:
    """Principal components of points: orthogonal directions of most variance, the first the strongest."""

    mean: Tensor
    """(features,)"""
    directions: Tensor
    """(components, features), orthonormal rows."""
    explained: Tensor
    """(components,) shares of the variance, falling; zeros where the points do not vary."""

    def needed(self, share: float = 0.99) -> int:
        """How many components explain `share` of the variance."""
        return int((self.explained.cumsum(0) < share - 1e-12).sum()) + 1


def principal_components(points: Tensor) -> Components:
    """The components of points (samples, features), in float64, by the eigenvectors of their covariance.

    A direction's sign is that which makes its largest entry positive, so that a figure comes out the same twice.
    """
    points = points.double()
    mean = points.mean(dim=0)
    centred = points - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / max(1, len(points) - 1))
    values, directions = values.flip(0).clamp_min(0), vectors.flip(1).T
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    total = values.sum()
    explained = values / total if total > 0 else torch.zeros_like(values)
    return Components(mean, directions * largest.sign(), explained)


def component_rows(explained: Tensor) -> list[Row]:
    """One row a principal component, from the shares of the variance (components,)."""
    together = explained.cumsum(0).tolist()
    return [
        {"component": number, "explained": share, "cumulative": whole}
        for number, (share, whole) in enumerate(zip(explained.tolist(), together, strict=True), start=1)
    ]


def unit_tables(states: Tensor, bound: Tensor | float) -> dict[str, list[Row]]:
    """When the units of states (steps, N, width) settled: tables `histogram`, of units a state, and `distribution`."""
    count, width = len(states), states.shape[-1]
    found: dict[str, list[Row]] = {"histogram": [], "distribution": []}
    for criterion in CRITERIA:
        settled = convergence_steps(states, bound, criterion)
        units = (width * histogram(settled, count)).tolist()
        key: Row = {"criterion": criterion}
        found["histogram"] += [{**key, "step": step, "units": part} for step, part in enumerate(units, start=1)]
        found["distribution"].append({**key, **distribution(settled, count)})
    return found


def lasting(rows: Sequence[Row]) -> dict[str, float]:
    """Percentiles and the unsettled share by the criterion that lasts, from a table `distribution`."""
    (row,) = (row for row in rows if row["criterion"] == "lasting")
    return {name: numbers([row], name)[0] for name in row if name != "criterion"}
