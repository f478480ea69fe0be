"""Figures of the language models, drawn from tables."""

import math
from pathlib import Path

from deq_core.experiment.files import output_directory
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Axes, Figure
from deq_core.experiment.tables import Row, numbers, read_rows
from deq_sequence.params import Plot
from deq_sequence.tables import Tables, scores, sweeps

PEER_COLOUR = "#999999"


def figures(tables: Tables, config: Plot, *, out: Path) -> list[Path]:
    """Draws learning_curves, iterations and bits_per_character as SVG into `out`; returns their paths."""
    drawings = {
        "learning_curves.svg": learning_curves(tables, config),
        "iterations.svg": iterations(tables),
        "bits_per_character.svg": bits(tables),
    }
    with output_directory(out) as partial:
        for name, drawing in drawings.items():
            plotting.save(drawing, partial / name, dpi=config.dpi)
    return [out / name for name in drawings]


def learning_curves(tables: Tables, config: Plot) -> Figure:
    """Perplexity of training batches and of the validation text against the update, a column a text."""
    texts = list(dict.fromkeys(tables.texts.values()))
    figure, panels = plotting.figure(4.5 * len(texts), 6.0, rows=2, columns=len(texts))
    for text, training, validation in zip(texts, panels[: len(texts)], panels[len(texts) :], strict=True):
        for method in tables.of_text(text):
            histories = [read_rows(folder / "history.csv") for folder in tables.train[method]]
            steps = plotting.smooth(numbers(histories[0], "step"), config.smoothing)
            losses = [plotting.smooth(numbers(rows, "task_loss"), config.smoothing) for rows in histories]
            plotting.curve(training, steps, [[math.exp(loss) for loss in of_seed] for of_seed in losses], label=method)
            measured = [[row for row in rows if "val_perplexity" in row] for rows in histories]
            values = [numbers(rows, "val_perplexity") for rows in measured]
            plotting.curve(validation, numbers(measured[0], "step"), values, label=method)
        for axes, name in ((training, "training batches"), (validation, "validation text")):
            axes.set_title(f"{text}: {name}")
            axes.set_xlabel("training step")
            axes.set_ylabel("perplexity")
            axes.set_yscale("log")
            axes.legend()
    return figure


def iterations(tables: Tables) -> Figure:
    """Perplexity after each evaluation at test time, a column a text, and below it the relative residual.

    Lines across are what counting achieves.
    """
    measured, found = sweeps(tables), scores(tables)
    texts = list(dict.fromkeys(tables.texts.values()))
    figure, panels = plotting.figure(4.5 * len(texts), 6.5, rows=2, columns=len(texts))
    for text, upper, lower in zip(texts, panels[: len(texts)], panels[len(texts) :], strict=True):
        for method in tables.of_text(text):
            for solver, runs in measured[method].items():
                label = method if solver == "unrolled" else f"{method}, {solver}"
                drawn(upper, runs, "perplexity", label)
                drawn(lower, runs, "residual", label)
        for name, values in found[text].items():
            if name.startswith("Kneser-Ney") and not name.endswith(" 1"):
                upper.axhline(values["perplexity"].mean, color=PEER_COLOUR, linestyle="--", linewidth=1)
                upper.annotate(name, (1, values["perplexity"].mean), color=PEER_COLOUR, fontsize=7, va="bottom")
        upper.set_title(text)
        upper.set_ylabel("test perplexity")
        lower.set_ylabel("relative residual")
        lower.set_xlabel("evaluations at test time")
        for axes in (upper, lower):
            axes.set_yscale("log")
        lower.legend()
    return figure


def drawn(axes: Axes, runs: list[list[Row]], key: str, label: str) -> None:
    """One curve: the mean over seeds against the evaluation."""
    plotting.curve(axes, numbers(runs[0], "step"), [numbers(rows, key) for rows in runs], label=label)


def bits(tables: Tables) -> Figure:
    """Bits per character of every method, which compares texts cut into tokens of different kinds."""
    figure, (axes,) = plotting.figure(9.0, 3.5)
    found = scores(tables)
    plotting.bars(
        axes,
        {
            text: {name: values["bits_per_character"] for name, values in by_method.items()}
            for text, by_method in found.items()
        },
    )
    axes.set_ylabel("bits per character of the test text")
    axes.legend(ncols=2)
    return figure
