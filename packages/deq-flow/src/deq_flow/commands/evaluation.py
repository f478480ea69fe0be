"""Commands that measure a checkpoint, on published sets and on videos, and prepare its submissions."""

from pathlib import Path
from typing import Annotated, Literal

import torch

from deq_core.experiment import config
from deq_core.experiment.commands import PARAMS, Positional, finish
from deq_core.experiment.tracking.run import track
from deq_flow.inference_params import Inference, Measure, Start, Starts
from deq_flow.networks import Network, load

Device = Literal["auto", "cpu", "cuda"]


def evaluate_checkpoint(
    checkpoint: Annotated[str, Positional],
    set: str,
    out: Path,
    root: Path = Path("data"),
    device: Device = "auto",
    params: Path = PARAMS,
    section: str | None = None,
) -> None:
    """Measures CHECKPOINT on a published set below `root`, by the protocol of its releases, or on one of one's own.

    CHECKPOINT is a released file (.pth), a folder that training wrote, or the name of a shipped one. `set` is chairs,
    things, sintel, kitti, hd1k or spring, one part such as sintel_clean, or own: the pairs of `root` itself. `section`
    names parameters (deq_flow.inference_params.Measure) with another solver or budget, or with sweeps over them.
    """
    from deq_flow.evaluation.published import measure_checkpoint
    from deq_flow.evaluation.sets import named

    choice = Measure() if section is None else config.load(Measure, params, section)
    network = on(device, load(checkpoint))
    with track("flow.evaluate-checkpoint", {"checkpoint": checkpoint, "set": set, "measure": choice}, out=out) as log:
        finish(measure_checkpoint(network, choice, named(set), root=root, out=out, log=log))


def sequences(
    checkpoint: Annotated[str, Positional],
    out: Path,
    set: str = "sintel_clean",
    root: Path = Path("data"),
    device: Device = "auto",
    params: Path = PARAMS,
    section: str | None = None,
) -> None:
    """Compares cold, warm and reused starts of CHECKPOINT on the videos of a set below `root`.

    `set` is sintel_clean, sintel_final, hd1k or spring. `section` names parameters (deq_flow.inference_params.Starts)
    with the starts and budgets to compare; without it every start has the network's own budget.
    """
    from deq_flow.evaluation.starts import compare_starts

    choice = Starts() if section is None else config.load(Starts, params, section)
    network = on(device, load(checkpoint))
    with track("flow.sequences", {"checkpoint": checkpoint, "set": set, "starts": choice}, out=out) as log:
        finish(compare_starts(network, choice, set, root=root, out=out, log=log))


def submit(
    leaderboard: Annotated[Literal["sintel", "kitti"], Positional],
    checkpoint: Annotated[str, Positional],
    out: Path,
    root: Path = Path("data"),
    start: Start = "cold",
    device: Device = "auto",
    params: Path = PARAMS,
    section: str | None = None,
) -> None:
    """Writes the files that the leaderboard of Sintel or KITTI takes, made with CHECKPOINT from the test split.

    `start` is where the frames of Sintel's videos begin: cold, warm (as RAFT's submission), reuse or
    reuse_interpolated. `section` names parameters (deq_flow.inference_params.Inference) with another solver or budget.
    """
    from deq_flow.evaluation import submission

    choice = Inference() if section is None else config.load(Inference, params, section)
    network = on(device, load(checkpoint))
    if leaderboard == "kitti":
        finish(submission.kitti(network, choice, root=root, out=out))
    else:
        finish(submission.sintel(network, choice, root=root, out=out, start=start))


def on(device: Device, network: Network) -> Network:
    """The network on a device; "auto" is CUDA where there is some."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return network.to(device)
