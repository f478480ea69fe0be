"""The tables that training and evaluation leave on disk, as figures and report read them."""

from dataclasses import dataclass
from pathlib import Path

from deq_core.experiment.results import Row, read_rows

SET_TITLES = {
    "sintel_clean": "Sintel-mini clean",
    "sintel_final": "Sintel-mini final",
    "kitti": "KITTI-mini",
    "motorcycle": "motorcycle (real)",
}


@dataclass(frozen=True)
class Tables:
    """Folders of results, one a seed for each trained method."""

    train: dict[str, list[Path]]
    evaluate: dict[str, list[Path]]
    baselines: Path

    @classmethod
    def below(cls, results: Path, methods: tuple[str, ...], seeds: tuple[int, ...]) -> "Tables":
        """The folders that the pipeline writes below `results` for these methods and seeds.

        The sweep is read from the parameters and not from the disk, where a larger, earlier sweep may linger.
        """
        return cls(
            train={method: [results / "train" / f"{method}-{seed}" for seed in seeds] for method in methods},
            evaluate={method: [results / "evaluate" / f"{method}-{seed}" for seed in seeds] for method in methods},
            baselines=results / "baselines",
        )


def samples_by_method(tables: Tables) -> dict[str, list[list[Row]]]:
    """{method: one list of sample rows a seed}, baselines first."""
    rows = read_rows(tables.baselines / "samples.csv")
    baselines = {
        str(method): [[row for row in rows if row["method"] == method]]
        for method in dict.fromkeys(row["method"] for row in rows)
    }
    trained = {
        method: [read_rows(folder / "samples.csv") for folder in folders] for method, folders in tables.evaluate.items()
    }
    return {**baselines, **trained}
