"""Wall-clock time of a frame: warm starts with K evaluations against the converged baseline, by one solver.

    python -m benchmarks.stream.speed CHECKPOINT --data data/vision/street [--solver broyden] [--split test] [--write]

CHECKPOINT is the folder of a segmentation model, or the shipped name street. The videos of the set are processed one
after another, frame by frame. Every mode gets each frame, and the modes take turns in being first, so that other load
on the machine affects all alike. The time of a frame is from its normalised pixels to its logits: stem, solve and head.
The ratios are of medians over all frames but the first few of each video. The converged baseline starts every frame
from zeros and ends at its tolerance. The mIoU is that of the labelled frames among these; read the speedup at equal
mIoU from both columns, also against cold starts with fewer evaluations.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import torch

import deq_core as deq
from benchmarks.core.pages import markdown, with_table
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.files import write_text
from deq_core.experiment.tables import Row, write_rows
from deq_vision import MDEQ, load
from deq_vision.data.classes import STREET
from deq_vision.data.transforms import IMAGENET
from deq_vision.demo.label_space import label_space_of
from deq_vision.params import Segment
from deq_vision.streaming.evaluate import Run, runs, see
from deq_vision.streaming.params import StreamEvaluate
from deq_vision.streaming.videos import SegmentedVideo, play, segmented_videos

PAGE = Path(__file__).parents[2] / "docs" / "streaming.md"
HEADER = ("start", "K", "evaluations", "ms, median", "ms, 10-90 %", "times as fast", "mIoU")
SOLVERS: dict[str, deq.Broyden | deq.Anderson | deq.FixedPointIteration] = {
    "broyden": deq.Broyden(),
    "anderson": deq.Anderson(),
    "plain": deq.FixedPointIteration(),
}


@dataclass(frozen=True)
class Speed:
    """Time and accuracy of a mode."""

    mode: str
    steps: int
    milliseconds: tuple[float, ...]
    """Time of each counted frame."""
    evaluations: float
    """Mean number of evaluations per frame."""
    miou: float

    @property
    def median(self) -> float:
        """Median time, milliseconds."""
        return median(self.milliseconds)


def measure(model: MDEQ, videos: Sequence[SegmentedVideo], task: Segment, config: StreamEvaluate) -> list[Speed]:
    """Measures all modes in turns; the first video is processed once before, as a warm-up."""
    for shown in play(videos[:1], 1):
        for run in runs(model, task, config):
            see(run, shown, task.normalisation)
    every = runs(model, task, config)
    for number, shown in enumerate(play(videos, 1)):
        first = number % len(every)
        for run in (*every[first:], *every[:first]):
            see(run, shown, task.normalisation)
    return [speed(run, config.settled) for run in every]


def speed(run: Run, settled: int) -> Speed:
    """Time and accuracy of a run from frame `settled` of each video on."""
    rows = [row for index, entries in run.costs.values.items() if index >= settled for row in entries]
    if not rows:
        raise ValueError(f"expected videos of more than {settled} frames")
    places = [place for place in run.scores.frames if place[1] >= settled]
    return Speed(
        run.mode,
        run.steps,
        tuple(milliseconds for _, _, milliseconds in rows),
        sum(spent for _, spent, _ in rows) / len(rows),
        run.scores.headline(places).get("miou", float("nan")),
    )


def table(speeds: Sequence[Speed]) -> str:
    """Table in Markdown; "times as fast" is relative to the first row, the converged baseline."""
    rows = []
    for entry in speeds:
        low, *_, high = quantiles(entry.milliseconds, n=10)
        rows.append(
            (
                entry.mode,
                str(entry.steps),
                f"{entry.evaluations:.1f}",
                f"{entry.median:.2f}",
                f"{low:.2f} to {high:.2f}",
                f"{speeds[0].median / entry.median:.2f}",
                f"{entry.miou:.4f}",
            )
        )
    return markdown(HEADER, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="folder of a model that segments, or a name that ships")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that holds cityscapes/, of the release or mini"
    )
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--solver", choices=SOLVERS, help="of all modes; the model's own by default")
    parser.add_argument("--budgets", type=int, nargs="+", default=[1, 2, 4, 8], help="evaluations of f a frame")
    parser.add_argument("--most", type=int, default=24, help="evaluations of the baseline at most")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="relative residual at which the baseline ends")
    parser.add_argument("--before", type=int, default=19, help="frames before the annotated one")
    parser.add_argument("--after", type=int, default=0, help="frames behind it")
    parser.add_argument("--settled", type=int, default=5, help="first frame of a video that counts")
    parser.add_argument("--videos", type=int, help="how many videos; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="CSV file of the rows")
    about = "put the table into docs/streaming.md (solver: plain by default, or broyden)"
    parser.add_argument("--write", action="store_true", help=about)
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    model = load(options.checkpoint)
    classes = len(label_space_of(model).names)
    task = Segment(labels="street" if classes == len(STREET) else "cityscapes", normalisation=IMAGENET)
    config = StreamEvaluate(
        budgets=tuple(options.budgets),
        converged=StopConfig(max_steps=options.most, tol=options.tolerance),
        solver=None if options.solver is None else SOLVERS[options.solver],
        split=options.split,
        before=options.before,
        after=options.after,
        settled=options.settled,
    )
    speeds = measure(model, segmented_videos(task, config, options.data)[: options.videos], task, config)
    print(table(speeds))
    if options.out is not None:
        rows: list[Row] = [
            {
                "mode": entry.mode,
                "steps": entry.steps,
                "evaluations": entry.evaluations,
                "milliseconds": entry.median,
                "speed_up": speeds[0].median / entry.median,
                "miou": entry.miou,
            }
            for entry in speeds
        ]
        write_rows(options.out, rows)
    if options.write:
        block = "speed" if options.solver is None else f"speed-{options.solver}"
        write_text(PAGE, with_table(PAGE.read_text(encoding="utf-8"), block, table(speeds)))


if __name__ == "__main__":
    main()
