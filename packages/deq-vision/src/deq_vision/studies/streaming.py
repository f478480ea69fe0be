"""Networks on video: warm starts, cold starts with the same evaluations, and the converged baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch

from deq_core.experiment import distributed
from deq_core.experiment.config import Kind, Name, Seed
from deq_core.experiment.data.released import located
from deq_core.experiment.study.stage import Job, Section, Stage
from deq_core.experiment.tables import Row
from deq_vision.detection.params import Detect
from deq_vision.models.build import load
from deq_vision.params import Segment
from deq_vision.streaming.evaluate import Run, frame_rows, runs, show, summary_row, video_rows
from deq_vision.streaming.params import StreamEvaluate
from deq_vision.streaming.videos import Video, annotated_videos, segmented_videos
from deq_vision.tasks import headline, require_head

VideoTask = Annotated[Segment | Detect, Kind]


@dataclass(frozen=True)
class Trained:
    """A network of the pipeline."""

    experiment: Name
    seed: Seed


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """A task, and the settings of its evaluation on videos."""

    task: VideoTask
    stream: StreamEvaluate


def settings(section: Section, case: Trained) -> Streaming:
    """Settings of an experiment."""
    return Streaming(
        task=section.load(VideoTask, f"experiments.{case.experiment}.task"),
        stream=section.load(StreamEvaluate, f"stream.{case.experiment}"),
    )


def measure(job: Job[Trained, Streaming]) -> Mapping[str, float]:
    """Measures a network on videos.

    Tables: `summary` has one row per run, `frames` one per run and frame index, `videos` one per run and video.
    Milliseconds, which are not reproducible, go to the log only.

    Returns:
        Headline metric and evaluations of the summary, named `<mode>_<steps>.<name>`.

    Raises:
        LayoutError: the data set is missing or incomplete.
        ConfigError: the network's head is not for the task.
        NonFiniteError: an output for a frame is not finite; the tables then cover the frames before it.
    """
    task, config = job.settings.task, job.settings.stream
    torch.set_num_threads(config.threads)
    data = located(job.data)
    videos: Sequence[Video[Any]] = (
        segmented_videos(task, config, data) if isinstance(task, Segment) else annotated_videos(task, config, data)
    )
    network = load(job.network).to(distributed.device(config.device))
    require_head(task, network.size.head, data, config.split, source=job.network)
    every = runs(network, task, config)
    try:
        show(every, videos, task.normalisation, config.streams)
    finally:
        job.tables.update(tables(every, videos, config))
    job.log({f"{run.mode}_{run.steps}.milliseconds": run.costs.milliseconds() for run in every})
    metric = headline(task)
    return {
        f"{row['mode']}_{row['steps']}.{name}": float(value)
        for row in job.tables["summary"]
        for name in (metric, f"annotated_{metric}", f"settled_{metric}", "evaluations")
        if isinstance(value := row.get(name), int | float)
    }


def tables(every: Sequence[Run], videos: Sequence[Video[Any]], config: StreamEvaluate) -> dict[str, list[Row]]:
    """Tables of the runs that have processed a frame."""
    seen = [run for run in every if run.costs.values]
    return {
        "summary": [summary_row(run, videos, config) for run in seen],
        "frames": [row for run in seen for row in frame_rows(run)],
        "videos": [row for run in seen for row in video_rows(run, videos)],
    }


STREAM = Stage(name="vision.stream", section="vision", case=Trained, settings=settings, run=measure)
