"""The tables that training, evaluation and counting leave on disk, as figures and report read them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deq_core.experiment.tables import Row, Statistic, numbers, read_metrics, read_rows, statistic
from deq_sequence.params import Evaluate

REPORTED = ("perplexity", "bits_per_character", "loss", "residual", "steps", "converged")
"""What is said of the solve of a model; of counting, the first three."""


@dataclass(frozen=True)
class Tables:
    """Folders of results, one a seed for each trained method."""

    train: dict[str, list[Path]]
    evaluate: dict[str, list[Path]]
    baselines: Path
    texts: dict[str, str]
    """The text of each method."""

    @classmethod
    def below(
        cls, results: Path, methods: tuple[str, ...], seeds: tuple[int, ...], evaluate: Mapping[str, Evaluate]
    ) -> "Tables":
        """The folders that the pipeline writes below `results` for these methods and seeds.

        The sweep is read from the parameters and not from the disk, where a larger, earlier sweep may linger.
        """

        def folders(stage: str) -> dict[str, list[Path]]:
            return {method: [results / stage / f"{method}-{seed}" for seed in seeds] for method in methods}

        texts = {method: evaluate[method].text for method in methods}
        return cls(folders("train"), folders("evaluate"), results / "baselines", texts)

    def of_text(self, text: str) -> list[str]:
        """The methods of a text."""
        return [method for method, its in self.texts.items() if its == text]


def scores(tables: Tables) -> dict[str, dict[str, dict[str, Statistic]]]:
    """{text: {method: {quantity: statistic over seeds}}}, counting first."""
    counted = read_rows(tables.baselines / "orders.csv")
    result: dict[str, dict[str, dict[str, Statistic]]] = {}
    for text in dict.fromkeys(tables.texts.values()):
        of_text = [row for row in counted if row["text"] == text]
        peers = {
            f"Kneser-Ney {row['order']}": {name: statistic(numbers([row], name)) for name in REPORTED[:3]}
            for row in of_text
        }
        trained = {}
        for method in tables.of_text(text):
            runs = [read_metrics(folder / "metrics.json") for folder in tables.evaluate[method]]
            trained[method] = {name: statistic([run[name] for run in runs]) for name in REPORTED}
        result[text] = {**peers, **trained}
    return result


def sweeps(tables: Tables) -> dict[str, dict[str, list[list[Row]]]]:
    """{method: {solver: one list of rows a seed, a row an evaluation}}."""
    result: dict[str, dict[str, list[list[Row]]]] = {}
    for method, folders in tables.evaluate.items():
        runs = [read_rows(folder / "steps.csv") for folder in folders]
        solvers = dict.fromkeys(str(row["solver"]) for row in runs[0])
        result[method] = {
            solver: [[row for row in run if row["solver"] == solver] for run in runs] for solver in solvers
        }
    return result
