"""Flow of videos: each pair has a cold start, or starts from the result of the pair before it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from deq_core.experiment.tables import Row, grouped, numbers
from deq_flow.data.samples import FlowSample, require_known
from deq_flow.evaluation.interpolate import forward_interpolate
from deq_flow.evaluation.sets import SequenceSet
from deq_flow.finite import require_finite
from deq_flow.inference import Estimator
from deq_flow.inference_params import Start
from deq_flow.metrics import sample_metrics
from deq_flow.models import FlowOutput
from deq_flow.models.network import State
from deq_flow.models.scales import evaluations, in_finest


@dataclass(frozen=True)
class Frame:
    """A pair of a video, with its estimated flow."""

    sequence: str
    number: int
    """Place of the pair in its video, from 1."""
    sample: FlowSample
    output: FlowOutput


def start_from(start: Start, states: Sequence[State] | None) -> tuple[State, ...] | None:
    """The initial states of a pair, from the final states (hidden, flow) of the pair before it; None is a cold start.

    There is one state for each scale. The flow at a finer scale is only the difference to the coarser flow, so warping
    hardly moves it.

    cold                does not use the pair before
    warm                zero hidden state and forward-warped flow: RAFT's warm start
    reuse               the unchanged state: fixed-point reuse
    reuse_interpolated  unchanged hidden state and forward-warped flow: reuse as in the DEQ-Flow release
    """
    if states is None or start == "cold":
        return None
    match start:
        case "warm":
            return tuple((torch.zeros_like(hidden), forward_interpolate(flow)) for hidden, flow in states)
        case "reuse":
            return tuple(states)
        case "reuse_interpolated":
            return tuple((hidden, forward_interpolate(flow)) for hidden, flow in states)
    raise ValueError(f"start must be cold, warm, reuse or reuse_interpolated, got {start!r}")


def estimated(estimate: Estimator, pairs: SequenceSet, start: Start, *, progress: str) -> Iterator[Frame]:
    """Estimates all pairs of all videos in order; the first pair of each has a cold start. `progress` titles the bar.

    Raises:
        NonFiniteError: the flow of a pair is not finite.
    """
    with tqdm(total=len(pairs), desc=progress, unit="pair", disable=None) as bar:
        for sequence, indices in pairs.sequences().items():
            states: tuple[State, ...] | None = None
            for number, index in enumerate(indices, start=1):
                sample = pairs[index]
                output = estimate(sample.image1[None], sample.image2[None], start_from(start, states))
                require_finite(output.flow[0], f"{progress}, {sample.name}")
                states = output.states
                yield Frame(sequence, number, sample, output)
                bar.update()


def measure(estimate: Estimator, pairs: SequenceSet, starts: Sequence[Start], *, title: str) -> Iterator[Row]:
    """One row for each start and pair: start, sequence, frame, name, error over valid pixels, and cost of the solve.

    `iterations` is the number of evaluations of a solve, and `steps` the one that gave the flow, with the lowest
    residual. An unrolled network has no `residual`, and `converged` requires a tolerance. With several scales,
    `iterations` and `nfe` are sums over them in units of the finest, where an evaluation at half the size counts a
    quarter; `steps` and `residual` are those of the finest scale; `converged` requires all scales to be.
    """
    for start in starts:
        for frame in estimated(estimate, pairs, start, progress=f"{title}, {start}"):
            require_known(frame.sample, f"{title}, {frame.sample.name}")
            yield {"start": start, **frame_row(frame, estimate)}


def frame_row(frame: Frame, estimate: Estimator) -> Row:
    """The row of `measure` for one pair."""
    output, sample = frame.output, frame.sample
    metrics = sample_metrics(output.flow[0].cpu(), sample.flow, sample.valid)
    row: Row = {"sequence": frame.sequence, "frame": frame.number, "name": sample.name, **metrics}
    row["iterations"] = evaluations(output, estimate.steps)
    if output.solution is None:
        return {**row, "steps": estimate.steps, "nfe": row["iterations"]}
    row |= {
        "steps": int(output.solution.steps[0]),
        "nfe": in_finest(output, [solution.nfe for solution in output.solutions]),
        "residual": float(output.solution.residual[0]),
    }
    if estimate.tolerance is not None:
        row["converged"] = all(bool(solution.converged[0]) for solution in output.solutions)
    return row


def summary(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """Means over the pairs with equal values in the columns `by`: epe, px1, px3, f1_all, iterations, nfe and so on.

    Each pair has equal weight. `converged` is the share of the pairs.
    """
    averaged = ("epe", "px1", "px3", "px5", "f1_all", "iterations", "steps", "nfe", "residual", "converged")
    return [
        {
            **dict(zip(by, key, strict=True)),
            "pairs": len(group),
            **{name: sum(numbers(group, name)) / len(group) for name in averaged if name in group[0]},
        }
        for key, group in grouped(rows, by).items()
    ]
