"""The tables that the delta studies leave on disk, as figures and report read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deq_core.experiment.results import Row, read_rows
from deq_flow.arrays import read_arrays
from deq_flow.delta_params import Delta

Folders = Sequence[Path]
"""One folder a seed."""


@dataclass(frozen=True)
class DeltaTables:
    """Folders of results, one a seed for each study."""

    sweep: Folders
    convergence: Folders
    sine: dict[str, Folders]
    """By fit."""
    images: dict[str, Folders]
    """By representation."""

    @classmethod
    def below(cls, results: Path, config: Delta) -> "DeltaTables":
        """The folders that the pipeline writes below `results`."""

        def folders(study: str, name: str) -> Folders:
            return [results / study / f"{name}-{seed}" for seed in config.seeds]

        return cls(
            sweep=folders("sweep", config.method),
            convergence=folders("convergence", config.method),
            sine={name: folders("sine", name) for name in config.sine},
            images={name: folders("inr", name) for name in config.representations},
        )


def rows(folders: Folders, table: str) -> list[Row]:
    """The rows of one table of all seeds, each with its number of the seed in `run`."""
    return [{"run": run, **row} for run, folder in enumerate(folders) for row in read_rows(folder / f"{table}.csv")]


def first_arrays(folders: Folders, name: str):
    """The arrays of the first seed."""
    return read_arrays(folders[0] / f"{name}.npz")
