"""The tables that training and evaluation leave on disk, as figures and report read them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deq_core.experiment.tables import Row, read_rows


@dataclass(frozen=True)
class Tables:
    """Folders of results, one a seed for each trained method."""

    train: dict[str, list[Path]]
    evaluate: dict[str, list[Path]]
    baselines: Path
    reuse: dict[str, list[Path]] = field(default_factory=dict)
    """Of the methods whose starts were compared; one folder for a shipped checkpoint."""
    curriculum: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    """Evaluations after each stage that followed FlyingChairs, in order."""

    @classmethod
    def below(
        cls,
        results: Path,
        methods: tuple[str, ...],
        seeds: tuple[int, ...],
        *,
        reuse: tuple[str, ...] = (),
        shipped: tuple[str, ...] = (),
        curriculum: Mapping[str, tuple[str, ...]] | None = None,
    ) -> "Tables":
        """The folders that the pipeline writes below `results` for these methods and seeds.

        The sweep is read from the parameters and not from the disk, where a larger, earlier sweep may linger.
        """

        def folders(stage: str, wanted: tuple[str, ...]) -> dict[str, list[Path]]:
            return {method: [results / stage / f"{method}-{seed}" for seed in seeds] for method in wanted}

        return cls(
            train=folders("train", methods),
            evaluate=folders("evaluate", methods),
            baselines=results / "baselines",
            reuse={**folders("reuse", reuse), **{name: [results / "reuse" / name] for name in shipped}},
            curriculum={stage: folders(f"evaluate_{stage}", names) for stage, names in (curriculum or {}).items()},
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


def samples_by_stage(tables: Tables) -> dict[str, list[list[Row]]]:
    """{"method, stage": one list of sample rows a seed}, in the order of the curriculum."""
    stages = {"chairs": tables.evaluate, **tables.curriculum}
    followed = list(dict.fromkeys(method for methods in tables.curriculum.values() for method in methods))
    return {
        f"{method}, {stage}": [read_rows(folder / "samples.csv") for folder in methods[method]]
        for method in followed
        for stage, methods in stages.items()
        if method in methods
    }
