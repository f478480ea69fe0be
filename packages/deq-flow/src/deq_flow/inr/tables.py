"""Tables that the sine and the images have in common."""

from collections.abc import Sequence

from torch import Tensor

from deq_core.experiment.tables import Row, numbers
from deq_flow.settling import CRITERIA, distribution, histogram, settled_after


def settling_tables(states: Tensor, bound: Tensor | float) -> dict[str, list[Row]]:
    """When the units of states (steps, N, width) settled: tables `histogram`, of units a state, and `distribution`."""
    count, width = len(states), states.shape[-1]
    histograms: list[Row] = []
    distributions: list[Row] = []
    for criterion in CRITERIA:
        settled = settled_after(states, bound, criterion)
        units = (width * histogram(settled, count)).tolist()
        histograms += [
            {"criterion": criterion, "step": step, "units": part} for step, part in enumerate(units, start=1)
        ]
        distributions.append({"criterion": criterion, **distribution(settled, count)})
    return {"histogram": histograms, "distribution": distributions}


def component_rows(explained: Tensor) -> list[Row]:
    """One row a principal component, from the shares of the variance (components,)."""
    together = explained.cumsum(0).tolist()
    return [
        {"component": number, "explained": share, "cumulative": whole}
        for number, (share, whole) in enumerate(zip(explained.tolist(), together, strict=True), start=1)
    ]


def lasting(rows: Sequence[Row]) -> dict[str, float]:
    """Percentiles and the unsettled share by the criterion that lasts, from a table `distribution`."""
    (row,) = (row for row in rows if row["criterion"] == "lasting")
    return {name: numbers([row], name)[0] for name in row if name != "criterion"}


def by_threshold(rows: Sequence[Row], quality: str) -> dict[str, float]:
    """{"rule.threshold.quantity": value} of the quality and what was saved, from a table `thresholds`."""
    return {
        f"{row['rule']}.{row['threshold']:g}.{name}": numbers([row], name)[0]
        for row in rows
        for name in (quality, "macs_saved", "release_saved")
    }
