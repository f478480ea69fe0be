"""Figures of the vision pipeline, drawn from its tables alone."""

from collections.abc import Sequence
from pathlib import Path

from deq_core.experiment.config.plot import Plot
from deq_core.experiment.files import output_directory
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.tables import Row, Statistic, numbers, read_rows
from deq_vision.tables import HEADLINES, Tables, headline, run_name, scores, streams, sweeps

WIDTH = 3.2  # inches of a panel


def figures(tables: Tables, config: Plot, *, out: Path) -> list[Path]:
    """Draws learning_curves, scores, evaluations, stream and stream_frames as SVG into `out`; returns their paths."""
    drawings = {
        "learning_curves.svg": learning_curves(tables, config),
        "scores.svg": compared(tables),
        "evaluations.svg": evaluations(tables),
        "stream.svg": budgets(tables),
        "stream_frames.svg": settling(tables),
    }
    with output_directory(out) as partial:
        for name, drawing in drawings.items():
            plotting.save(drawing, partial / name, dpi=config.dpi)
    return [out / name for name in drawings]


def learning_curves(tables: Tables, config: Plot) -> Figure:
    """Loss of training batches and the headline metric of the watched split against the update, a column an experiment.

    Lines are means over seeds, bands one standard deviation.
    """
    figure, panels = plotting.figure(WIDTH * len(tables.train), 5.0, rows=2, columns=len(tables.train))
    for column, (name, folders) in enumerate(tables.train.items()):
        above, below = panels[column], panels[len(tables.train) + column]
        histories = [read_rows(folder / "history.csv") for folder in folders]
        smoothed = [
            [plotting.smooth(numbers(rows, key), config.smoothing) for rows in histories]
            for key in ("step", "task_loss")
        ]
        plotting.curve(above, smoothed[0][0], smoothed[1], label=name)
        metric = headline(key.removeprefix("val_") for row in histories[0] for key in row)
        watched = [[row for row in rows if f"val_{metric}" in row] for rows in histories]
        seeds = [numbers(rows, f"val_{metric}") for rows in watched]
        plotting.curve(below, numbers(watched[0], "step"), seeds, label=name)
        above.set_title(name)
        above.set_ylabel("loss of training batches")
        below.set_ylabel(f"{HEADLINES[metric]}, watched split")
        below.set_xlabel("update")
    return figure


def compared(tables: Tables) -> Figure:
    """The headline metric of networks and baselines; error bars are one standard deviation over seeds."""
    figure, panels = plotting.figure(WIDTH * len(tables.evaluate), 3.5, columns=len(tables.evaluate))
    for axes, name in zip(panels, tables.evaluate, strict=True):
        found = scores(tables, name)
        metric = headline(next(iter(found.values())))
        plotting.bars(axes, {method: {metric: spread(values, metric)} for method, values in found.items()})
        axes.set_title(name)
        axes.set_ylabel(HEADLINES[metric])
        axes.tick_params(axis="x", rotation=30)
    return figure


def evaluations(tables: Tables) -> Figure:
    """The headline metric, and below it the relative residual, after each evaluation of f at test time."""
    figure, panels = plotting.figure(WIDTH * len(tables.evaluate), 5.0, rows=2, columns=len(tables.evaluate))
    for column, name in enumerate(tables.evaluate):
        above, below = panels[column], panels[len(tables.evaluate) + column]
        seeds = sweeps(tables, name)
        metric = headline(seeds[0][0])
        for axes, key in ((above, metric), (below, "residual")):
            plotting.curve(axes, numbers(seeds[0], "step"), [numbers(rows, key) for rows in seeds], label=name)
        above.set_title(name)
        above.set_ylabel(HEADLINES[metric])
        below.set_ylabel("relative residual")
        below.set_yscale("log")
        below.set_xlabel("evaluations of f at test time")
    return figure


def budgets(tables: Tables) -> Figure:
    """The headline metric of frames of videos against the evaluations that a frame gets, by start.

    The converged baseline is a line across; an adaptive run a point at its mean evaluations.
    """
    figure, panels = plotting.figure(4.5 * len(tables.stream), 3.5, columns=len(tables.stream))
    for axes, name in zip(panels, tables.stream, strict=True):
        rows = [read_rows(folder / "summary.csv") for folder in tables.stream[name]]
        metric = headline(rows[0][0])
        for mode in ("warm", "cold"):
            chosen = [[row for row in of_seed if row["mode"] == mode] for of_seed in rows]
            found = [numbers(of_seed, metric) for of_seed in chosen]
            plotting.curve(axes, numbers(chosen[0], "steps"), found, label=mode)
        longest = max(numbers([row for row in rows[0] if row["mode"] == "warm"], "steps"))
        converged = [numbers([row for row in of_seed if row["mode"] == "converged"], metric) for of_seed in rows]
        plotting.curve(axes, (1, longest), [[value, value] for (value,) in converged], label="converged")
        for run, values in streams(tables, name).items():
            if run.partition(" ")[0] not in ("warm", "cold", "converged"):
                axes.errorbar(
                    values["evaluations"],
                    values[metric],
                    values.get(f"{metric}_std"),
                    values.get("evaluations_std"),
                    "o",
                    capsize=2,
                    label=run,
                )
        axes.set_title(name)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("evaluations of f a frame")
        axes.set_ylabel(f"{HEADLINES[metric]}, all frames")
        axes.legend()
    return figure


def settling(tables: Tables) -> Figure:
    """The relative residual of each frame of the videos, and below it the headline metric: how a warm state settles."""
    figure, panels = plotting.figure(4.5 * len(tables.stream), 6.0, rows=2, columns=len(tables.stream))
    for column, name in enumerate(tables.stream):
        seeds = [read_rows(folder / "frames.csv") for folder in tables.stream[name]]
        metric = headline(key for row in seeds[0] for key in row)
        for place, key, title in (
            (column, "residual", "relative residual"),
            (len(tables.stream) + column, metric, HEADLINES[metric]),
        ):
            axes = panels[place]
            for run in dict.fromkeys(map(run_name, seeds[0])):
                if run.startswith("cold"):
                    continue
                chosen = [measured(rows, run, key) for rows in seeds]
                plotting.curve(axes, numbers(chosen[0], "frame"), [numbers(rows, key) for rows in chosen], label=run)
            axes.set_xlabel("frame of the video")
            axes.set_ylabel(title)
            axes.legend(ncols=2)
        panels[column].set_title(name)
        panels[column].set_yscale("log")
    return figure


def measured(rows: Sequence[Row], run: str, key: str) -> list[Row]:
    """Those rows of a run over videos that have a value of `key`: not every frame has labels."""
    return [row for row in rows if run_name(row) == run and key in row]


def spread(values: dict[str, float], name: str) -> Statistic:
    """Mean and deviation of what `over_seeds` gave."""
    return Statistic(values[name], values.get(f"{name}_std", float("nan")), int(values.get("seeds", 1)))
