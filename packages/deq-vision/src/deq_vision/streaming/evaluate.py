"""Evaluation on video: warm starts, cold starts with the same evaluations, and the converged baseline."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import deq_core as deq
from deq_core.experiment.tables import Row
from deq_vision.data.transforms import Normalisation
from deq_vision.detection.params import Detect
from deq_vision.finite import require_finite
from deq_vision.models.mdeq import MDEQ
from deq_vision.params import Segment
from deq_vision.streaming.params import StreamEvaluate
from deq_vision.streaming.scores import Costs, DetectionScores, Place, SegmentationScores
from deq_vision.streaming.stream import StreamDEQ
from deq_vision.streaming.videos import Shown, Video, play
from deq_vision.windows import padded


@dataclass
class Run:
    """One way to spend evaluations on the frames of videos, with its results."""

    mode: str
    """warm, cold, converged, or the name of an adaptive run."""
    steps: int
    """Maximum number of evaluations per frame."""
    stream: StreamDEQ
    scores: SegmentationScores | DetectionScores
    costs: Costs


def runs(model: MDEQ, task: Segment | Detect, config: StreamEvaluate) -> list[Run]:
    """The runs of `config`, all with one solver: the baseline, warm and cold for each budget, then adaptive ones."""

    def run(mode: str, stop: deq.Stop, *, warm: bool, cut: float | None = None) -> Run:
        stream = StreamDEQ(model, stop, warm=warm, cut=cut, solver=config.solver)
        scores = SegmentationScores() if isinstance(task, Segment) else DetectionScores(task)
        return Run(mode, stop.max_steps, stream, scores, Costs())

    budgets = [deq.Stop(max_steps=count, tol=None) for count in config.budgets]
    return [
        run("converged", config.converged.build(), warm=False),
        *(run(mode, stop, warm=mode == "warm") for stop in budgets for mode in ("warm", "cold")),
        *(run(name, stop.build(), warm=True, cut=config.cut) for name, stop in config.adaptive.items()),
    ]


def show(runs: Sequence[Run], videos: Sequence[Video[Any]], normalisation: Normalisation, streams: int) -> None:
    """Feeds the videos to every run, frame by frame; a stream ends with its video."""
    for shown in play(videos, streams):
        for run in runs:
            see(run, shown, normalisation)


def see(run: Run, shown: Sequence[Shown[Any]], normalisation: Normalisation) -> None:
    """Feeds one frame of each of some streams to a run; the time measured is from normalised images to logits.

    Raises:
        NonFiniteError: an output for one of the frames is not finite.
    """
    model = run.stream.model
    device = next(model.parameters()).device
    frames = torch.stack([one.frame.image for one in shown]).to(device)
    images = padded(normalisation.apply(frames), model.size.multiple)
    names = [one.video for one in shown]
    synchronise(device)
    began = time.perf_counter()
    output = run.stream(images, names)
    synchronise(device)
    spent = 1e3 * (time.perf_counter() - began)
    if output.logits is None:
        raise ValueError("the model has no head: streaming is measured by the task's metric")
    require_finite(output.logits, output.residual, [f"{one.name}, {run.mode} {run.steps}" for one in shown])
    run.costs.add(output.residual, output.evaluations, spent, shown)
    run.scores.add(output.logits, images, shown)
    for one in shown:
        if one.last:
            run.stream.end(one.video)


def synchronise(device: torch.device) -> None:
    """Waits for the device, so that a clock measures the work and not its launch."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def frame_rows(run: Run) -> list[Row]:
    """One row per frame index within the videos: residual, evaluations and, if annotated, the headline metric."""
    measured = grouped(run.scores.frames, by=1)
    rows: list[Row] = []
    for index in sorted(run.costs.values):
        metric = run.scores.headline(measured.get(index, []))
        rows.append({"mode": run.mode, "steps": run.steps, "frame": index, **run.costs.means(index), **metric})
    return rows


def video_rows(run: Run, videos: Sequence[Video[Any]]) -> list[Row]:
    """One row per video: the headline metric of its frames."""
    return [
        {"mode": run.mode, "steps": run.steps, "video": videos[number].name, **run.scores.headline(places)}
        for number, places in sorted(grouped(run.scores.frames, by=0).items())
    ]


def grouped(places: Iterable[Place], *, by: int) -> dict[int, list[Place]]:
    """Groups the places by video (0) or by index within the video (1)."""
    groups: dict[int, list[Place]] = {}
    for place in places:
        groups.setdefault(place[by], []).append(place)
    return groups


def summary_row(run: Run, videos: Sequence[Video[Any]], config: StreamEvaluate) -> Row:
    """Metrics of all frames, of those that the protocol measures (`annotated_...`), of later ones (`settled_...`)."""
    places = list(run.scores.frames)
    metrics = run.scores.metrics(places)
    parts = {
        "annotated_": [place for place in places if videos[place[0]].annotated in (None, place[1])],
        "settled_": [place for place in places if place[1] >= config.settled],
    }
    more = {f"{part}{name}": value for part, some in parts.items() for name, value in run.scores.headline(some).items()}
    return {"mode": run.mode, "steps": run.steps, "frames": len(places), **run.costs.means(), **metrics, **more}
