"""Figures of the fitted sine and of the images."""

from collections.abc import Mapping

import numpy as np

from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.tables import Row, numbers
from deq_flow.delta_tables import Folders, first_arrays, rows
from deq_flow.tradeoff import mean_by, tradeoff


def sine_figure(fits: Mapping[str, Folders]) -> Figure:
    """A row a fit: y after some steps, error after each, when units settle, and error against work."""
    figure, axes = plotting.figure(12.5, 3.2 * len(fits), rows=len(fits), columns=4)
    for number, (name, folders) in enumerate(fits.items()):
        shape, error, settled, work = axes[4 * number : 4 * number + 4]
        arrays = first_arrays(folders, "states")
        for step, values in zip(arrays["shown"], arrays["predictions"], strict=True):
            shape.plot(arrays["x"], values, label=f"step {step}", linewidth=1)
        shape.set_title(f"{name}: y")
        shape.set_xlabel("x")
        shape.legend(fontsize="x-small")
        plotting.curve(error, *mean_by(rows(folders, "steps"), "step", "mse"), label="dense")
        error.set_yscale("log")
        error.set_ylabel("mean squared error")
        error.set_xlabel("steps")
        draw_settling(settled, rows(folders, "histogram"))
        draw_rules(work, rows(folders, "thresholds"), "mse")
        dense = [
            {**row, "work": 100 * step / len(steps)}
            for steps in (by_run(rows(folders, "steps")))
            for step, row in enumerate(steps, start=1)
        ]
        tradeoff(work, dense, by="step", x="work", y="mse", label="dense, fewer steps", line=":")
        work.set_yscale("log")
        work.set_ylabel("mean squared error")
        work.legend(fontsize="x-small")
    return figure


def image_figures(representations: Mapping[str, Folders]) -> dict[str, Figure]:
    """Quality and work of every representation, and the images of the first seed."""
    figure, axes = plotting.figure(12.5, 3.2 * len(representations), rows=len(representations), columns=4)
    pictures = []
    for number, (name, folders) in enumerate(representations.items()):
        training, quality, settled, work = axes[4 * number : 4 * number + 4]
        draw_training(training, rows(folders, "history"))
        training.set_title(f"{name}: training")
        steps = rows(folders, "steps")
        plotting.curve(quality, *mean_by(steps, "step", "psnr"), label="dense")
        quality.set_xlabel("evaluations")
        quality.set_ylabel("PSNR (dB)")
        draw_settling(settled, rows(folders, "histogram"))
        draw_rules(work, rows(folders, "thresholds"), "psnr")
        dense = [{**row, "work": 100 * number / len(own)} for own in by_run(steps) for number, row in enumerate(own, 1)]
        tradeoff(work, dense, by="step", x="work", y="psnr", label="dense, fewer", line=":")
        work.set_ylabel("PSNR (dB)")
        work.legend(fontsize="x-small")
        arrays = first_arrays(folders, "images")
        shown = [arrays["target"], arrays["dense"], *list(arrays.values())[2:6]]
        titles = ["target", f"{name}: dense", *list(arrays)[2:6]]
        pictures.append([(title, colours(image)) for title, image in zip(titles, shown, strict=True)])
    return {"inr.svg": figure, "inr_images.svg": plotting.image_grid(pictures, width=11.0)}


def draw_training(axes, table: list[Row]) -> None:
    """The quality of training against the work of its solves up to there, and what that is without the delta rule."""
    runs = by_run(table)
    qualities = [numbers(own, "psnr") for own in runs]
    for count, label in (("macs_sparse", "as trained"), ("macs_dense", "dense solves")):
        work = np.mean([np.cumsum(numbers(own, count)) for own in runs], axis=0) / 1e9
        plotting.curve(axes, work.tolist(), qualities, label=label)
    axes.set_xlabel("MACs of training solves, 10⁹")
    axes.set_ylabel("PSNR (dB)")
    axes.legend(fontsize="x-small")


def draw_settling(axes, table: list[Row]) -> None:
    """Units of a state that settle after each step, by both criteria."""
    for criterion in dict.fromkeys(row["criterion"] for row in table):
        chosen = [row for row in table if row["criterion"] == criterion]
        plotting.curve(axes, *mean_by(chosen, "step", "units"), label=str(criterion))
    axes.set_xlabel("step")
    axes.set_ylabel("units settled")
    axes.legend(fontsize="x-small")


def draw_rules(axes, table: list[Row], quality: str) -> None:
    """A quality against the work of every rule, per cent of the dense solve's MACs."""
    for rule in dict.fromkeys(row["rule"] for row in table):
        chosen = [{**row, "work": 100 * (1 - numbers([row], "macs_saved")[0])} for row in table if row["rule"] == rule]
        tradeoff(axes, chosen, by="threshold", x="work", y=quality, label=str(rule))
    axes.set_xlabel("MACs, % of the dense solve's")


def by_run(table: list[Row]) -> list[list[Row]]:
    """The rows of each seed."""
    return [[row for row in table if row["run"] == run] for run in dict.fromkeys(row["run"] for row in table)]


def colours(values: np.ndarray) -> np.ndarray:
    """Values (h, w, channels) in [-1, 1] as uint8 (h, w, 3)."""
    image = np.rint(255 * (np.clip(values, -1, 1) + 1) / 2).astype(np.uint8)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
