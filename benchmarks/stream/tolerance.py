"""Cost and accuracy by tolerance: warm starts with fixed and adaptive budgets, on the validation split.

    python -m benchmarks.stream.tolerance CHECKPOINT... --data data/vision/street [--write]

Each CHECKPOINT is the folder of a segmentation or detection model, or a shipped name. Each of its rows is a way to
spend evaluations of f on every frame of the videos: the converged baseline, a fixed budget, or as many as reach a
relative residual, up to 8. Tolerances are chosen on this table, not on the test split.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.core.pages import markdown, with_table
from benchmarks.stream.speed import PAGE
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.files import write_text
from deq_core.experiment.tables import numbers
from deq_vision import load
from deq_vision.data.transforms import IMAGENET
from deq_vision.demo.label_space import label_space_of
from deq_vision.detection.params import Detect
from deq_vision.params import Segment
from deq_vision.streaming.evaluate import runs, show, summary_row
from deq_vision.streaming.params import StreamEvaluate
from deq_vision.streaming.videos import Video, annotated_videos, segmented_videos

TOLERANCES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
HEADER = ("checkpoint", "start", "evaluations", "metric, all frames", "settled frames", "relative residual")
CONFIG = StreamEvaluate(
    budgets=(1, 2, 3, 4),
    converged=StopConfig(max_steps=40, tol=1e-3),
    adaptive={f"to {tol}": StopConfig(max_steps=8, tol=tol) for tol in TOLERANCES},
    split="val",
    after=10,
)


def measured(checkpoint: str, data: Path, count: int | None = None) -> list[tuple[str, ...]]:
    """Rows of the table for a checkpoint."""
    model = load(checkpoint)
    task: Segment | Detect
    videos: Sequence[Video[Any]]
    if label_space_of(model).task == "segment":
        task, metric = Segment(labels="street", normalisation=IMAGENET), "miou"
        videos = segmented_videos(task, CONFIG, data)
    else:
        task, metric = Detect(objects="street", normalisation=IMAGENET), "ap50"
        videos = annotated_videos(task, CONFIG, data)
    every = [run for run in runs(model, task, CONFIG) if run.mode != "cold"]
    show(every, videos[:count], task.normalisation, CONFIG.streams)
    rows: list[tuple[str, ...]] = []
    for run in every:
        values = summary_row(run, videos, CONFIG)
        start = f"{run.mode} {run.steps}" if run.mode == "warm" else run.mode
        columns = ("evaluations", metric, f"settled_{metric}", "residual")
        rows.append((checkpoint, start, *(f"{numbers([values], name)[0]:.3f}" for name in columns)))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", help="folders of trained models, or names that ship")
    parser.add_argument("--data", type=Path, required=True, help="folder of the mini set's videos")
    parser.add_argument("--videos", type=int, help="how many videos; all by default")
    parser.add_argument("--write", action="store_true", help="put the table into docs/streaming.md")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [row for checkpoint in options.checkpoints for row in measured(checkpoint, options.data, options.videos)]
    table = markdown(HEADER, rows)
    print(table)
    if options.write:
        write_text(PAGE, with_table(PAGE.read_text(encoding="utf-8"), "tolerance", table))


if __name__ == "__main__":
    main()
