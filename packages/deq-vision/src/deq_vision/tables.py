"""The tables that training and evaluation leave on disk, as figures and report read them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deq_core.experiment.tables import Row, numbers, over_seeds, read_metrics, read_rows

HEADLINES = {"top1": "top-1 accuracy", "miou": "mIoU", "ap50": "AP50"}
"""The metric that a task is known by, and its title."""
MDEQ = "MDEQ"
"""The name of the networks beside those of the baselines."""


@dataclass(frozen=True)
class Tables:
    """Folders of results of each experiment, one a seed."""

    train: dict[str, list[Path]]
    evaluate: dict[str, list[Path]]
    stream: dict[str, list[Path]]
    """Of the experiments that were measured on videos."""
    baselines: dict[str, Path]
    """One folder an experiment that has any."""

    @classmethod
    def below(
        cls,
        results: Path,
        *,
        trained: Sequence[str],
        streamed: Sequence[str],
        baselines: Iterable[str],
        seeds: Sequence[int],
    ) -> "Tables":
        """The folders that the pipeline writes below `results` for these experiments and seeds.

        The sweep is read from the parameters and not from the disk, where a larger, earlier sweep may linger.
        """

        def folders(stage: str, wanted: Sequence[str]) -> dict[str, list[Path]]:
            return {name: [results / stage / f"{name}-{seed}" for seed in seeds] for name in wanted}

        return cls(
            train=folders("train", trained),
            evaluate=folders("evaluate", trained),
            stream=folders("stream", streamed),
            baselines={name: results / "baselines" / name for name in baselines},
        )


def headline(values: Iterable[str]) -> str:
    """The one of these names of metrics that their task is known by."""
    names = set(values)
    return next(name for name in HEADLINES if name in names)


def scores(tables: Tables, experiment: str) -> dict[str, dict[str, float]]:
    """{method: {metric: mean over seeds, metric_std, seeds}}: the baselines, the worst first, and the networks."""
    found: dict[str, dict[str, float]] = {}
    if experiment in tables.baselines:
        peers = read_metrics(tables.baselines[experiment] / "metrics.json")
        found = dict(sorted(peers.items(), key=lambda item: item[1][headline(item[1])]))
    runs = [read_metrics(folder / "metrics.json") for folder in tables.evaluate[experiment]]
    return {**found, MDEQ: {**over_seeds(runs), "seeds": len(runs)}}


def sweeps(tables: Tables, experiment: str) -> list[list[Row]]:
    """Rows of metric and residual after each evaluation of f, a list a seed."""
    return [read_rows(folder / "steps.csv") for folder in tables.evaluate[experiment]]


def streams(tables: Tables, experiment: str) -> dict[str, dict[str, float]]:
    """{"warm 4": {metric: mean over seeds, metric_std, seeds}} of an experiment's runs over videos."""
    runs = [by_run(read_rows(folder / "summary.csv")) for folder in tables.stream[experiment]]
    return {
        name: {**over_seeds([run[name] for run in runs]), "seeds": len(runs), "steps": row["steps"]}
        for name, row in runs[0].items()
    }


def by_run(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """{"warm 4": its numbers}: the rows of a summary by start and budget."""
    return {run_name(row): values(row) for row in rows}


def run_name(row: Mapping[str, object]) -> str:
    """A run over videos by its start and, but for the converged and adaptive ones, its budget."""
    mode = str(row["mode"])
    return f"{mode} {row['steps']}" if mode in ("warm", "cold") else mode


def values(row: Row) -> dict[str, float]:
    """The numbers of a row."""
    return {name: numbers([row], name)[0] for name, value in row.items() if not isinstance(value, str)}
