"""Commands that measure a checkpoint, on published sets and on videos, and prepare its submissions."""

from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment import config
from deq_core.experiment.commands import PARAMS, Positional, finish
from deq_core.experiment.device import chosen_device
from deq_core.experiment.tracking.run import track
from deq_flow.inference_params import Inference, Measure, Start, Starts
from deq_flow.networks import file_of, load


def evaluate_checkpoint(
    checkpoint: Annotated[str, Positional],
    set: str,
    out: Path,
    root: Path = Path("data"),
    device: str = "auto",
    params: Path = PARAMS,
    section: str | None = None,
) -> None:
    """Measures CHECKPOINT on a published set below `root`, by the protocol of its releases, or on one of one's own.

    Args:
        checkpoint: a shipped name, a folder that training wrote, a file of weights (.safetensors), or a released file
            (.pth).
        set: chairs, things, sintel, kitti, hd1k or spring, one part such as sintel_clean, or own: the pairs of the
            folder `--root` itself.
        out: a new folder, or one of an earlier evaluation as it left it, which is replaced.
        root: folder that the set is below.
        device: auto, cpu, cuda or cuda:N.
        params: file with parameters.
        section: where in that file another solver or budget is, or sweeps over them
            (deq_flow.inference_params.Measure); by default the network's own, but of RAFT and GMA the iterations
            that their releases have for the set.
    """
    from deq_flow.evaluation.published import measure_checkpoint
    from deq_flow.evaluation.sets import named

    choice = Measure() if section is None else config.load(Measure, params, section)
    network = load(checkpoint).to(chosen_device(device))
    said = {"checkpoint": checkpoint, "set": set, "measure": choice}
    case = {"checkpoint": checkpoint, "set": set}
    with track(
        "flow.evaluate-checkpoint", said, out=out, kind="evaluate", case=case, parent_of=file_of(checkpoint)
    ) as log:
        finish(measure_checkpoint(network, choice, named(set), root=root, out=out, log=log))


def sequences(
    checkpoint: Annotated[str, Positional],
    out: Path,
    set: str = "sintel_clean",
    root: Path = Path("data"),
    device: str = "auto",
    params: Path = PARAMS,
    section: str | None = None,
) -> None:
    """Compares cold, warm and reused starts of CHECKPOINT on the videos of a set below `root`.

    Args:
        checkpoint: a shipped name, a folder that training wrote, a file of weights (.safetensors), or a released file
            (.pth).
        out: a new folder, or one of an earlier comparison as it left it, which is replaced.
        set: sintel_clean, sintel_final, hd1k or spring; of the embedded data video or validation_video too.
        root: folder that the set is below.
        device: auto, cpu, cuda or cuda:N.
        params: file with parameters.
        section: where in that file the starts and budgets to compare are (deq_flow.inference_params.Starts); by default
            every start has the network's own budget.
    """
    from deq_flow.evaluation.starts import compare_starts

    choice = Starts() if section is None else config.load(Starts, params, section)
    network = load(checkpoint).to(chosen_device(device))
    said = {"checkpoint": checkpoint, "set": set, "starts": choice}
    case = {"checkpoint": checkpoint, "set": set}
    with track("flow.sequences", said, out=out, kind="evaluate", case=case, parent_of=file_of(checkpoint)) as log:
        finish(compare_starts(network, choice, set, root=root, out=out, log=log))


def submit(
    leaderboard: Annotated[Literal["sintel", "kitti"], Positional],
    checkpoint: Annotated[str, Positional],
    out: Path,
    root: Path = Path("data"),
    start: Start = "cold",
    device: str = "auto",
    params: Path = PARAMS,
    section: str | None = None,
) -> None:
    """Writes the files that the leaderboard of Sintel or KITTI takes, made with CHECKPOINT from the test split.

    Args:
        leaderboard: whose format and test split.
        checkpoint: a shipped name, a folder that training wrote, a file of weights (.safetensors), or a released file
            (.pth).
        out: a new folder, or one of an earlier submission as it left it, which is replaced.
        root: folder that the set is below.
        start: where the frames of Sintel's videos begin: cold, warm (as RAFT's submission), reuse or
            reuse_interpolated.
        device: auto, cpu, cuda or cuda:N.
        params: file with parameters.
        section: where in that file another solver or budget is (deq_flow.inference_params.Inference); by default the
            network's own, but of RAFT and GMA the iterations that their releases have for the set.
    """
    from deq_flow.evaluation import submission

    if leaderboard == "kitti" and start != "cold":
        raise config.ConfigError(f"--start: expected cold, since KITTI's pairs are of no video, got {start}")
    choice = Inference() if section is None else config.load(Inference, params, section)
    network = load(checkpoint).to(chosen_device(device))
    if leaderboard == "kitti":
        finish(submission.kitti(network, choice, root=root, out=out))
    else:
        finish(submission.sintel(network, choice, root=root, out=out, start=start))
