"""The tables that the stability study leaves on disk, as figures and report read them."""

from dataclasses import dataclass
from pathlib import Path

from deq_core.experiment.study.stages import all_there
from deq_core.experiment.tables import Row, numbers, read_rows
from deq_vision.stability_params import Method

CURVES = {"top1": "top-1 accuracy", "loss": "loss", "residual": "relative residual"}
"""What is measured after each evaluation."""
TITLES: dict[Method, str] = {"implicit": "implicit gradient", "unrolled": "unrolled"}


@dataclass(frozen=True)
class StabilityTables:
    """Rows of a metric after each evaluation of networks: by split, by evaluations in training N, by method, a seed."""

    splits: tuple[str, ...]
    steps: tuple[int, ...]
    """N."""
    methods: tuple[Method, ...]
    rows: dict[tuple[int, Method], list[list[Row]]]
    """Of all splits, a list a seed."""

    @classmethod
    def below(
        cls,
        results: Path,
        methods: tuple[Method, ...],
        steps: tuple[int, ...],
        seeds: tuple[int, ...],
        splits: tuple[str, ...],
    ) -> "StabilityTables":
        """Those that the pipeline writes below `results`; the study is the parameters', whatever else lies there.

        Raises:
            LayoutError: some of them are not there.
        """
        folders: dict[tuple[int, Method], list[Path]] = {
            (n, method): [results / "evaluate" / f"{method}-{n}-{seed}" for seed in seeds]
            for n in steps
            for method in methods
        }
        all_there(folders, results, "stability")
        rows = {key: [read_rows(folder / "steps.csv") for folder in repeated] for key, repeated in folders.items()}
        return cls(splits=splits, steps=steps, methods=methods, rows=rows)

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len(next(iter(self.rows.values())))

    def tested(self) -> list[float]:
        """Numbers of evaluations at which all networks were tested: 1, 2, ..."""
        first = next(iter(self.rows.values()))[0]
        return numbers([row for row in first if row["split"] == self.splits[0]], "step")

    def curves(self, steps: int, method: Method, split: str, metric: str) -> list[list[float]]:
        """(seeds, tested): a metric of the networks trained with `steps` evaluations, after each evaluation."""
        return [numbers([row for row in table if row["split"] == split], metric) for table in self.rows[steps, method]]
