"""Flow over videos: each pair starts afresh, or from what the pair before it came to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from deq_core.experiment.tables import Row, numbers
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
    """One pair of a video, estimated."""

    sequence: str
    number: int
    """Of the pair in its video, from 1."""
    sample: FlowSample
    output: FlowOutput


def start_from(start: Start, states: Sequence[State] | None) -> tuple[State, ...] | None:
    """Where a pair begins, given the states (hidden, flow) that the pair before it ended in; None is a cold start.

    There is a state a scale. The flow of a finer one is what it adds to the coarser flow, so it hardly moves when it is
    warped.

    cold                the pair before is not used
    warm                zero hidden state, and the forward-warped flow: RAFT's warm start
    reuse               the whole state as it is: fixed-point reuse
    reuse_interpolated  the hidden state as it is, and the forward-warped flow: reuse as DEQ-Flow released it
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
    """Every pair of every video in order; the first pair of each starts cold. `progress` titles the bar.

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
    """One row a start and pair: start, sequence, frame, name, the error over valid pixels, and what the solve cost.

    `iterations` is the number of evaluations that a solve used, and `steps` the one whose state is the flow: it has the
    lowest residual. An unrolled network uses as many as it has and has no `residual`; there is `converged` where there
    is a tolerance. Over several scales `iterations` and `nfe` count all of them in evaluations of the finest, where one
    at half the size is a quarter; `steps` and `residual` are the finest scale's; `converged` is whether all have.
    """
    for start in starts:
        for frame in estimated(estimate, pairs, start, progress=f"{title}, {start}"):
            require_known(frame.sample, f"{title}, {frame.sample.name}")
            yield {"start": start, **frame_row(frame, estimate)}


def frame_row(frame: Frame, estimate: Estimator) -> Row:
    """What `measure` says of one pair."""
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
    """Rows averaged over the pairs that agree in the columns `by`: epe, px1, px3, f1_all, iterations, nfe and so on.

    Each pair counts alike. `converged` is the share of the pairs.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    averaged = ("epe", "px1", "px3", "px5", "f1_all", "iterations", "steps", "nfe", "residual", "converged")
    return [
        {
            **dict(zip(by, key, strict=True)),
            "pairs": len(group),
            **{name: sum(numbers(group, name)) / len(group) for name in averaged if name in group[0]},
        }
        for key, group in groups.items()
    ]


def nested(rows: Sequence[Row], by: Sequence[str]) -> dict[str, Mapping]:
    """Rows as dictionaries within dictionaries, a level for each of the columns `by`."""
    result: dict = {}
    for row in rows:
        place = result
        for name in by:
            place = place.setdefault(str(row[name]), {})
        place |= {key: value for key, value in row.items() if key not in by}
    return result
