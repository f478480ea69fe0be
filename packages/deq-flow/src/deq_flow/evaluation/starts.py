"""Comparison of cold, warm and reused starts on videos, at several budgets."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued, tables
from deq_core.experiment.tables import Row, numbers, write_rows
from deq_core.experiment.tracking.run import Log
from deq_flow.evaluation.sequences import measure, summary
from deq_flow.evaluation.sets import SETS, sequences_of
from deq_flow.inference import Estimator
from deq_flow.inference_params import Starts
from deq_flow.networks import Network

BY = ("budget", "start")


def frames_of(network: Network, config: Starts, name: str, root: Path) -> Iterator[Row]:
    """One row for each budget, start and pair of the videos of the set `name` below `root`.

    Raises:
        NonFiniteError: the flow of a pair is not finite.
    """
    pairs = sequences_of(name, root)
    for budget, choice in config.budgets.items():
        estimate = Estimator(network, choice, padding=SETS[name].padding)
        for row in measure(estimate, pairs, config.starts, title=f"{name}, {budget}"):
            yield {"budget": budget, **row}


def log_frames(frames: Sequence[Row], log: Log) -> None:
    """Logs error and iterations of each pair, with its place in its video as the step."""
    for row in frames:
        place = f"{row['budget']}.{row['start']}.{row['sequence']}"
        values = {f"{place}.{key}": numbers([row], key)[0] for key in ("epe", "iterations")}
        log(values, int(numbers([row], "frame")[0]))


def by_video(frames: Sequence[Row]) -> list[Row]:
    """Means over each video."""
    return summary(frames, (*BY, "sequence"))


def over_all(frames: Sequence[Row]) -> Mapping[str, Any]:
    """Means over all pairs, {budget: {start: {metric: value}}}."""
    found: dict[str, dict[str, Row]] = {}
    for row in summary(frames, BY):
        found.setdefault(str(row.pop("budget")), {})[str(row.pop("start"))] = row
    return found


def compare_starts(network: Network, config: Starts, name: str, *, root: Path, out: Path, log: Log) -> dict[str, float]:
    """Runs a network on the videos of the set `name` below `root`, from every start, at every budget.

    Writes to `out` frames.csv, with one row for each budget, start and pair; sequences.csv, the means over each video;
    and metrics.json, the means over all pairs.

    Returns:
        {budget.start.metric: value} for epe and iterations.
    """
    frames: list[Row] = []
    with rescued(out, tables({"frames": frames})):
        for row in frames_of(network, config, name, root):
            frames.append(row)
    log_frames(frames, log)
    means = over_all(frames)
    with output_directory(out) as partial:
        write_rows(partial / "frames.csv", frames)
        write_rows(partial / "sequences.csv", by_video(frames))
        write_json(partial / "metrics.json", means)
    return {
        f"{budget}.{start}.{key}": values[key]
        for budget, starts in means.items()
        for start, values in starts.items()
        for key in ("epe", "iterations")
    }
