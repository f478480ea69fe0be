"""Predictions for the test splits of Sintel and KITTI, in the file formats of their leaderboards."""

from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from deq_core.experiment.files import output_directory
from deq_core.experiment.rescue import files, rescued
from deq_flow.data.io import KITTI_RANGE, write_flo, write_kitti
from deq_flow.data.sets.kitti import Kitti
from deq_flow.data.sets.sintel import Sintel
from deq_flow.evaluation.sequences import estimated
from deq_flow.evaluation.sets import SETS, as_published
from deq_flow.finite import require_finite
from deq_flow.inference import Estimator
from deq_flow.inference_params import Inference, Start
from deq_flow.models import RAFT, DEQFlow
from deq_flow.models.scales import evaluations

Render = Literal["clean", "final"]


def sintel(
    network: DEQFlow | RAFT, choice: Inference, *, root: Path, out: Path, start: Start = "cold"
) -> dict[str, float]:
    """Writes `out`/clean/SCENE/frame0001.flo and so on, and the same below final, as input of Sintel's bundler.

    The names are those of RAFT's and DEQ-Flow's submissions, without the underscore in the names of the frames.

    Args:
        network: network in evaluation mode.
        choice: options of inference.
        root: folder that contains Sintel/test.
        out: folder that is created, or replaces an earlier submission, once all files are written.
        start: initialisation of a pair; the first of each scene and pass starts cold.

    Returns:
        files: number of files. iterations: mean number of iterations of a pair over all scales.

    Raises:
        NonFiniteError: the flow of a pair is not finite; the files of those before it are in `out`-partial.
    """
    estimate = Estimator(network, as_published(choice, "sintel_clean"), padding=SETS["sintel_clean"].padding)
    used: list[float] = []
    with output_directory(out) as partial, rescued(out, files(partial)):
        for render in get_args(Render):
            for frame in estimated(estimate, Sintel(root, render, "test"), start, progress=f"Sintel {render}"):
                name = f"frame{frame.number:04d}.flo"
                write_flo(partial / render / frame.sequence / name, frame.output.flow[0].cpu())
                used.append(evaluations(frame.output, estimate.steps))
    return {"files": len(used), "iterations": sum(used) / len(used)}


def kitti(network: DEQFlow | RAFT, choice: Inference, *, root: Path, out: Path) -> dict[str, float]:
    """Writes `out`/flow/000000_10.png and so on; the leaderboard takes a zip file with the folder flow at its root.

    Every pixel is marked as valid. Components outside the format's range of [-512, 512) pixels are clipped to it; the
    release lets them wrap around.

    Args:
        network: network in evaluation mode.
        choice: options of inference.
        root: folder that contains KITTI/testing.
        out: folder that is created, or replaces an earlier submission, once all files are written.

    Returns:
        files: number of files. iterations: mean number of iterations of a pair over all scales. clipped: number of
        clipped pixels.

    Raises:
        NonFiniteError: the flow of a pair is not finite; the files of those before it are in `out`-partial.
    """
    estimate = Estimator(network, as_published(choice, "kitti"), padding=SETS["kitti"].padding)
    pairs = Kitti(root, "testing")
    used: list[float] = []
    clipped = 0
    with output_directory(out) as partial, rescued(out, files(partial)):
        for index in tqdm(range(len(pairs)), desc="KITTI", unit="pair", disable=None):
            sample = pairs[index]
            output = estimate(sample.image1[None], sample.image2[None])
            require_finite(output.flow[0], f"KITTI, {sample.name}")
            flow, beyond = within_range(output.flow[0].cpu())
            write_kitti(partial / "flow" / f"{sample.name}_10.png", flow, torch.ones_like(sample.valid))
            used.append(evaluations(output, estimate.steps))
            clipped += beyond
    return {"files": len(used), "iterations": sum(used) / len(used), "clipped": clipped}


def within_range(flow: Tensor) -> tuple[Tensor, int]:
    """Flow (2, h, w) clipped to the range of KITTI's format, and the number of pixels that were clipped."""
    held = flow.clamp(*KITTI_RANGE)
    return held, int((held != flow).any(dim=0).sum())
