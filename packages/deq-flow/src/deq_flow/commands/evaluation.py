"""Commands that measure a checkpoint, on published sets and on videos, and prepare its submissions."""

from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment import config
from deq_core.experiment.commands import PARAMS, Positional, default, finish
from deq_core.experiment.device import chosen_device
from deq_core.experiment.tracking.run import track
from deq_flow.inference_params import Inference, Measure, Start, Starts
from deq_flow.networks import file_of, load

OWN_SOLVER = default("the network's own; of RAFT and GMA, RAFT's iterations for the set")


def evaluate(
    checkpoint: Annotated[str, Positional],
    *,
    data: Path,
    out: Path,
    set: str = "own",
    device: str = "auto",
    params: Path = PARAMS,
    section: Annotated[str | None, OWN_SOLVER] = None,
) -> None:
    """Evaluates CHECKPOINT on the pairs in the folder DATA: your own, or a published set by that set's protocol.

    Args:
        checkpoint: a shipped name, a folder written by training, a weights file (.safetensors), or a released file
            (.pth).
        data: folder of pairs with flow, laid out as for `fine-tune`; with `--set`, the folder that contains the set.
        out: a new folder, or the unchanged output of an earlier evaluation, which is replaced.
        set: own, the pairs directly in DATA; chairs, things, sintel, kitti, hd1k or spring; or one part of a set such
            as sintel_clean.
        device: auto, cpu, cuda or cuda:N.
        params: file with parameters.
        section: section of that file with another solver or budget, or sweeps over them
            (deq_flow.inference_params.Measure).
    """
    from deq_flow.evaluation.published import measure_checkpoint
    from deq_flow.evaluation.sets import named

    choice = Measure() if section is None else config.load(Measure, params, section)
    network = load(checkpoint).to(chosen_device(device))
    said = {"checkpoint": checkpoint, "set": set, "measure": choice}
    case = {"checkpoint": checkpoint, "set": set}
    with track("flow.evaluate", said, out=out, case=case, parent_of=file_of(checkpoint)) as log:
        finish(measure_checkpoint(network, choice, named(set), root=data, out=out, log=log))


def sequences(
    checkpoint: Annotated[str, Positional],
    out: Path,
    set: str = "sintel_clean",
    data: Path = Path("data"),
    device: str = "auto",
    params: Path = PARAMS,
    section: Annotated[str | None, default("every start, at the network's own budget")] = None,
) -> None:
    """Compares cold, warm and reused starts of CHECKPOINT on the videos of a data set.

    Args:
        checkpoint: a shipped name, a folder written by training, a weights file (.safetensors), or a released file
            (.pth).
        out: a new folder, or the unchanged output of an earlier comparison, which is replaced.
        set: sintel_clean, sintel_final, hd1k or spring; for the miniature data also video or validation_video.
        data: folder that contains the set.
        device: auto, cpu, cuda or cuda:N.
        params: file with parameters.
        section: section of that file with the starts and budgets to compare (deq_flow.inference_params.Starts).
    """
    from deq_flow.evaluation.starts import compare_starts

    choice = Starts() if section is None else config.load(Starts, params, section)
    network = load(checkpoint).to(chosen_device(device))
    said = {"checkpoint": checkpoint, "set": set, "starts": choice}
    case = {"checkpoint": checkpoint, "set": set}
    with track("flow.sequences", said, out=out, kind="evaluate", case=case, parent_of=file_of(checkpoint)) as log:
        finish(compare_starts(network, choice, set, root=data, out=out, log=log))


def submit(
    leaderboard: Annotated[Literal["sintel", "kitti"], Positional],
    checkpoint: Annotated[str, Positional],
    out: Path,
    data: Path = Path("data"),
    start: Start = "cold",
    device: str = "auto",
    params: Path = PARAMS,
    section: Annotated[str | None, OWN_SOLVER] = None,
) -> None:
    """Writes the files for the Sintel or KITTI leaderboard: the flow of CHECKPOINT on the test split.

    Args:
        leaderboard: which leaderboard.
        checkpoint: a shipped name, a folder written by training, a weights file (.safetensors), or a released file
            (.pth).
        out: a new folder, or the unchanged output of an earlier submission, which is replaced.
        data: folder that contains the set.
        start: initialisation on Sintel's videos: cold, warm (as in RAFT's submission), reuse or reuse_interpolated.
        device: auto, cpu, cuda or cuda:N.
        params: file with parameters.
        section: section of that file with another solver or budget (deq_flow.inference_params.Inference).
    """
    from deq_flow.evaluation import submission

    if leaderboard == "kitti" and start != "cold":
        raise config.ConfigError(f"--start: expected cold, since KITTI's pairs are of no video, got {start}")
    choice = Inference() if section is None else config.load(Inference, params, section)
    network = load(checkpoint).to(chosen_device(device))
    if leaderboard == "kitti":
        finish(submission.kitti(network, choice, root=data, out=out))
    else:
        finish(submission.sintel(network, choice, root=data, out=out, start=start))
