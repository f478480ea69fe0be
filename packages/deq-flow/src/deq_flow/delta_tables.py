"""The tables that the delta studies leave on disk, as figures and report read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deq_core.experiment.data.arrays import read_arrays
from deq_core.experiment.tables import Row, numbers, read_rows

Folders = Sequence[Path]
"""One folder a seed; one alone for a shipped checkpoint."""


@dataclass(frozen=True)
class DeltaTables:
    """Folders of results of each study."""

    sweep: dict[str, Folders]
    """By network."""
    convergence: dict[str, Folders]
    """By network."""
    sine: dict[str, Folders]
    """By fit."""
    images: dict[str, Folders]
    """By representation."""

    @classmethod
    def below(
        cls,
        results: Path,
        *,
        methods: Sequence[str],
        method_seeds: Sequence[int],
        shipped: Sequence[str],
        fits: Sequence[str],
        representations: Sequence[str],
        seeds: Sequence[int],
    ) -> "DeltaTables":
        """The folders that the pipeline writes below `results`; what is asked for is as in `Delta`."""

        def folders(study: str, name: str, repeated: Sequence[int] = seeds) -> Folders:
            return [results / study / f"{name}-{seed}" for seed in repeated]

        def networks(study: str) -> dict[str, Folders]:
            trained = {method: folders(study, method, method_seeds) for method in methods}
            return {**trained, **{name: [results / study / name] for name in shipped}}

        return cls(
            sweep=networks("sweep"),
            convergence=networks("convergence"),
            sine={name: folders("sine", name) for name in fits},
            images={name: folders("inr", name) for name in representations},
        )


def rows(folders: Folders, table: str) -> list[Row]:
    """The rows of one table of all seeds, each with its number of the seed in `run`."""
    return [{"run": run, **row} for run, folder in enumerate(folders) for row in read_rows(folder / f"{table}.csv")]


def first_arrays(folders: Folders, name: str):
    """The arrays of the first seed."""
    return read_arrays(folders[0] / f"{name}.npz")


def shared_of(table: Sequence[Row]) -> list[Row]:
    """Rows with their work as a share, in per cent, of the longest dense solve's of their set.

    `work` by the true count, `hoisted` likewise for dense solves that treat the context once, and `release` by the
    release's count, whose dense solve is that of the row itself.
    """
    whole: dict[Any, float] = {}
    for row in table:
        (dense,) = numbers([row], "macs_dense")
        whole[row["set"]] = max(whole.get(row["set"], 0.0), dense)
    found = []
    for row in table:
        hoisted, sparse = numbers([row], "macs_hoisted")[0], numbers([row], "macs_sparse")[0]
        total = whole[row["set"]]
        more: Row = {"work": 100 * sparse / total, "hoisted": 100 * hoisted / total}
        if "release_saved" in row:
            more["release"] = 100 * (1 - numbers([row], "release_saved")[0])
        found.append({**row, **more})
    return found
