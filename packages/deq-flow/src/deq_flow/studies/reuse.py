"""Fixed-point reuse (Bai et al., CVPR 2022): cold, warm and reused starts of the frames of long videos."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from deq_core.experiment import distributed
from deq_core.experiment.config import Names
from deq_core.experiment.data.released import located
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.stage import Job, Stage
from deq_flow.evaluation.starts import by_video, frames_of, log_frames, over_all
from deq_flow.inference_params import Starts
from deq_flow.networks import load


@dataclass(frozen=True, kw_only=True)
class Reuse(Starts):
    """Settings of the study of reuse on embedded videos."""

    methods: Names
    """Trained networks, keys of `model`."""
    shipped: Names
    """Checkpoints that the package ships, names of `networks.SHIPPED`."""
    set: str = "video"
    """Name of a set of videos; see `evaluation.sets.SETS`."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1


def measure(job: Job[Measured, Reuse]) -> Mapping[str, Any]:
    """Means over all pairs; the tables are `frames`, by budget, start and pair, and `sequences`, by video."""
    config, frames = job.settings, job.tables["frames"]
    torch.set_num_threads(config.threads)
    network = load(job.network).to(distributed.device(config.device))
    for row in frames_of(network, config, config.set, located(job.data)):
        frames.append(row)
    log_frames(frames, job.log)
    job.tables["sequences"] = by_video(frames)
    return over_all(frames)


REUSE = Stage(
    name="flow.reuse",
    section="flow",
    case=Measured,
    settings=lambda section, case: section.load(Reuse, "reuse"),
    run=measure,
)
