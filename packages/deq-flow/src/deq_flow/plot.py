"""Figures of the flow pipeline, drawn from its tables alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from deq_core.experiment.config.plot import Plot
from deq_core.experiment.data.arrays import read_arrays
from deq_core.experiment.files import output_directory
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.tables import Row, numbers, read_rows, statistic
from deq_flow.evaluate import summary
from deq_flow.metrics import epe_map
from deq_flow.sets import titles
from deq_flow.tables import Tables, samples_by_method
from deq_flow.visualize import error_to_rgb, flow_to_rgb


def figures(tables: Tables, config: Plot, *, out: Path) -> list[Path]:
    """Draws learning_curves, epe, iterations, example and, where starts were compared, reuse as SVG into `out`.

    Returns:
        their paths.
    """
    drawings = {
        "learning_curves.svg": learning_curves(tables, config),
        "epe.svg": errors(tables),
        "iterations.svg": iterations(tables),
        "example.svg": example(tables),
    }
    if tables.reuse:
        drawings["reuse.svg"] = starts(tables)
    with output_directory(out) as partial:
        for name, drawing in drawings.items():
            plotting.save(drawing, partial / name, dpi=config.dpi)
    return [out / name for name in drawings]


def learning_curves(tables: Tables, config: Plot) -> Figure:
    """Training and validation error against the step, mean over seeds with a band of one standard deviation."""
    figure, (training, validation) = plotting.figure(9.0, 3.5, columns=2)
    for method, folders in tables.train.items():
        histories = [read_rows(folder / "history.csv") for folder in folders]
        smoothed = [
            [plotting.smooth(numbers(rows, name), config.smoothing) for rows in histories] for name in ("step", "epe")
        ]
        plotting.curve(training, smoothed[0][0], smoothed[1], label=method)
        measured = [[row for row in rows if "val_epe" in row] for rows in histories]
        plotting.curve(
            validation, numbers(measured[0], "step"), [numbers(rows, "val_epe") for rows in measured], label=method
        )
    training.set_ylabel("EPE of training batches (px)")
    validation.set_ylabel("EPE of validation pairs (px)")
    for axes in (training, validation):
        axes.set_xlabel("training step")
        axes.legend()
    return figure


def errors(tables: Tables) -> Figure:
    """EPE of every method on every set; error bars are one standard deviation over seeds."""
    figure, (axes,) = plotting.figure(9.0, 3.5)
    summaries = {method: [summary(rows) for rows in runs] for method, runs in samples_by_method(tables).items()}
    groups = {
        title: {method: statistic([of[name]["epe"] for of in seeds]) for method, seeds in summaries.items()}
        for name, title in titles(next(iter(summaries.values()))[0]).items()
    }
    plotting.bars(axes, groups)
    axes.set_ylabel("EPE (px)")
    axes.legend(ncols=2)
    return figure


def iterations(tables: Tables) -> Figure:
    """EPE after each iteration on Sintel clean and KITTI, and the relative residual of the equilibrium solves."""
    figure, panels = plotting.figure(9.0, 3.5, columns=3)
    runs = {name: [read_rows(folder / "steps.csv") for folder in folders] for name, folders in tables.evaluate.items()}
    headings = titles(str(row["set"]) for of_seed in runs.values() for row in of_seed[0])
    shown = (("sintel_clean", "epe"), ("kitti", "epe"), ("sintel_clean", "residual"))
    labels = {"epe": "EPE (px)", "residual": "relative residual"}
    for axes, (name, key) in zip(panels, shown, strict=True):
        for method, seeds in runs.items():
            chosen = [[row for row in rows if row["set"] == name] for rows in seeds]
            if key in chosen[0][0]:
                plotting.curve(axes, numbers(chosen[0], "step"), [numbers(rows, key) for rows in chosen], label=method)
        axes.set_title(headings[name])
        axes.set_xlabel("iterations at test time")
        axes.set_ylabel(labels[key])
        axes.legend()
    panels[-1].set_yscale("log")
    return figure


def starts(tables: Tables) -> Figure:
    """EPE and evaluations of each frame of the videos, mean over videos and over seeds with a band of one deviation.

    Two rows of panels a method, a column a budget, a curve a start.
    """
    runs = {
        method: [read_rows(folder / "frames.csv") for folder in folders] for method, folders in tables.reuse.items()
    }
    budgets = list(dict.fromkeys(row["budget"] for rows in runs.values() for row in rows[0]))
    quantities = (("epe", "EPE (px)"), ("iterations", "evaluations"))
    figure, panels = plotting.figure(4.5 * len(budgets), 5.0 * len(runs), rows=2 * len(runs), columns=len(budgets))
    places = iter(panels)
    for method, rows in runs.items():
        for key, label in quantities:
            for budget in budgets:
                axes = next(places)
                for start in dict.fromkeys(row["start"] for row in rows[0]):
                    curves = [by_frame(of_seed, {"budget": budget, "start": start}, key) for of_seed in rows]
                    plotting.curve(axes, list(curves[0]), [list(of.values()) for of in curves], label=str(start))
                axes.set_title(f"{method}, {budget}")
                axes.set_xlabel("pair of the video")
                axes.set_ylabel(label)
                axes.legend()
    return figure


def by_frame(rows: Sequence[Row], having: Row, key: str) -> dict[float, float]:
    """{frame: mean of `key`} over the rows that have these values, in order of time."""
    mine = [row for row in rows if all(row[name] == value for name, value in having.items())]
    values: dict[float, list[float]] = {}
    for frame, value in sorted(zip(numbers(mine, "frame"), numbers(mine, key), strict=True)):
        values.setdefault(frame, []).append(value)
    return {frame: statistic(found).mean for frame, found in values.items()}


def example(tables: Tables) -> Figure:
    """One held-out pair: frames and true flow above, prediction and error of each trained method below."""
    predictions = {method: read_arrays(folders[0] / "example.npz") for method, folders in tables.evaluate.items()}
    shared = next(iter(predictions.values()))
    target = torch.from_numpy(shared["target"])
    longest = float(target.norm(dim=0).max())
    flows = {method: torch.from_numpy(arrays["flow"]) for method, arrays in predictions.items()}
    largest = max(float(epe_map(flow, target).max()) for flow in flows.values())
    rows = [
        [
            ("frame 1", shared["image1"].transpose(1, 2, 0)),
            ("frame 2", shared["image2"].transpose(1, 2, 0)),
            ("true flow", pixels(flow_to_rgb(target, max_norm=longest))),
        ]
    ]
    for method, flow in flows.items():
        error = epe_map(flow, target)
        rows.append(
            [
                (f"{method}: flow", pixels(flow_to_rgb(flow, max_norm=longest))),
                (f"{method}: error, EPE {error.mean():.2f} px", pixels(error_to_rgb(error, max_error=largest))),
                (f"{method}: error over 3 px", (error > 3).numpy().astype(np.uint8)),
            ]
        )
    return plotting.image_grid(rows)


def pixels(image: torch.Tensor) -> np.ndarray:
    """(3, h, w) as (h, w, 3)."""
    return image.permute(1, 2, 0).numpy()
