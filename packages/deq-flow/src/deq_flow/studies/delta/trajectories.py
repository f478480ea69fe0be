"""Statistics of a trajectory of states: steps until its elements settle, and principal components."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from deq_core.experiment.tables import Row, numbers

Criterion = Literal["first", "lasting"]
"""When an element has settled: at its first small change, as the release measures, or once all later ones are small."""
CRITERIA: tuple[Criterion, ...] = ("first", "lasting")


def convergence_steps(states: Tensor, bound: Tensor | float, criterion: Criterion = "lasting") -> Tensor:
    """Number of steps until each element settled, long (...).

    Args:
        states: (steps, ...) the states after steps 1, 2, ... of an iteration.
        bound: largest change in a step that counts as small; a number, or a tensor that broadcasts with (...).
        criterion: whether the first small change counts, or the first after which all are small. Elements may pause, so
            "first" is never later than "lasting".

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
    """Percentiles p5, p50 and p95 of `convergence_steps`, and the share that did not settle within `count` steps.

    A percentile is the smallest step by which that share of the elements had settled; `count` means that it had not.
    """
    share = histogram(steps, count).cumsum(0)
    found = {f"p{part}": float((share < part / 100 - 1e-9).sum() + 1) for part in (5, 50, 95)}
    return {**found, "unsettled": float((steps == count).double().mean())}


def histogram(steps: Tensor, count: int) -> Tensor:
    """Shares of elements that settled after 1, 2, ..., count steps, (count,) float64."""
    return torch.bincount(steps.flatten() - 1, minlength=count).double() / steps.numel()


def explained_variance(points: Tensor) -> Tensor:
    """Shares of the variance of points (samples, features) by principal component (features,), decreasing.

    Computed in float64; zeros if the points do not vary.
    """
    points = points.double()
    centred = points - points.mean(dim=0)
    values = torch.linalg.eigh(centred.T @ centred / max(1, len(points) - 1)).eigenvalues.flip(0).clamp_min(0)
    total = values.sum()
    return values / total if total > 0 else torch.zeros_like(values)


def components_needed(explained: Tensor, share: float = 0.99) -> int:
    """Number of components that explain `share` of the variance."""
    return int((explained.cumsum(0) < share - 1e-12).sum()) + 1


def component_rows(explained: Tensor) -> list[Row]:
    """One row for each principal component, from the shares of the variance (components,)."""
    together = explained.cumsum(0).tolist()
    return [
        {"component": number, "explained": share, "cumulative": whole}
        for number, (share, whole) in enumerate(zip(explained.tolist(), together, strict=True), start=1)
    ]


def unit_tables(states: Tensor, bound: Tensor | float) -> dict[str, list[Row]]:
    """Steps to settle of the units of states (steps, N, width): tables `histogram`, in units, and `distribution`."""
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
    """Percentiles and the unsettled share by the criterion "lasting", from a table `distribution`."""
    (row,) = (row for row in rows if row["criterion"] == "lasting")
    return {name: numbers([row], name)[0] for name in row if name != "criterion"}
