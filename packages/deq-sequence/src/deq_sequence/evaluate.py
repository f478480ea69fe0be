"""Evaluation of a model on a text by the released protocol, segment after segment with memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

import deq_core as deq
from deq_sequence.data.batches import Window, windows
from deq_sequence.finite import perplexity, require_finite
from deq_sequence.models.transformer import DEQTransformer, Memory, Segment, SequenceOutput, unrolled


@dataclass
class Score:
    """Sums of losses and residuals over the segments of a text."""

    tokens: int = 0
    """Number of predictions."""
    nats: float = 0.0
    """Sum of their losses, -log p."""
    solves: int = 0
    """Number of solves: one per row and segment."""
    residuals: float = 0.0
    steps: float = 0.0
    converged: float = 0.0

    def add(self, losses: Tensor, residual: Tensor) -> None:
        """Adds losses (B, T) and residuals (B,) of a segment."""
        self.tokens += losses.numel()
        self.nats += float(losses.double().sum())
        self.solves += len(residual)
        self.residuals += float(residual.double().sum())

    @property
    def loss(self) -> float:
        """Mean loss per token, nats."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity(self.loss)

    @property
    def residual(self) -> float:
        """Mean relative residual of the solves."""
        return self.residuals / self.solves


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Settings of a sweep over evaluations, besides the reported solve."""

    solvers: Mapping[str, deq.Solver]
    """Solvers by name; a model with `steps` is swept over its depth instead."""
    evaluations: int
    """Number of evaluations, after each of which the model is measured."""
    tokens: int | None = None
    """Number of tokens of the text, from the start of its rows; None for all."""


@dataclass(frozen=True)
class Measured:
    """Results of a model on a text."""

    score: Score = field(default_factory=Score)
    """Score of the reported solve."""
    sweep: dict[str, list[Score]] = field(default_factory=dict)
    """Scores after each evaluation, by solver."""


@torch.no_grad()
def measure(
    model: DEQTransformer,
    text: Tensor,
    *,
    length: int,
    batch_size: int = 1,
    stride: int | None = None,
    sweep: Sweep | None = None,
    found: Measured | None = None,
) -> Measured:
    """Measures the perplexity of a model on a text, with an optional sweep over evaluations.

    Memory is always that of the reported solve, so the sweep shows the gain of a single segment from one more
    evaluation. Its states are those that solves of so many evaluations return, the best so far.

    Args:
        model: model in evaluation mode; its `equilibrium` has solver, stopping rule and memory.
        text: (N,) tokens. All tokens of a row except the first are predicted once; see `windows`.
        length: number of tokens in a segment.
        batch_size: number of rows of the text, read in parallel.
        stride: number of tokens from one segment to the next; None for `length`.
        sweep: further solves of each segment.
        found: results to add to and return, so that they are available after an error too.

    Raises:
        NonFiniteError: a prediction is not finite.
        ValueError: the text is shorter than two tokens per row, or `stride` is not from 1 to `length`.
    """
    found = Measured() if found is None else found
    score, scores = found.score, found.sweep
    for window, memory, output in read(model, text, length=length, batch_size=batch_size, stride=stride):
        assert output.losses is not None
        before = score.tokens
        require_finite(output.losses, output.solution.residual, begin=window.begin)
        score.add(output.losses[:, -window.scored :], output.solution.residual)
        score.steps += float(output.solution.steps.sum())
        score.converged += float(output.solution.converged.sum())
        if sweep is None or (sweep.tokens is not None and before >= sweep.tokens):
            continue
        tokens, targets = (part.to(output.losses.device) for part in (window.tokens, window.targets))
        for name, solution in swept(model, model.encode(tokens, memory), sweep).items():
            points = scores.setdefault(name, [Score() for _ in range(sweep.evaluations)])
            residuals = solution.residuals(sweep.evaluations)
            for step, (state, residual) in enumerate(zip(solution.trajectory, residuals, strict=True)):
                losses = model.losses(state, targets)
                require_finite(losses, residual, begin=window.begin, name=f"{name}, after {step + 1} evaluations")
                points[step].add(losses[:, -window.scored :], residual)
    return found


def read(
    model: DEQTransformer, text: Tensor, *, length: int, batch_size: int, stride: int | None = None
) -> Iterator[tuple[Window, Memory | None, SequenceOutput]]:
    """Reads a text and yields each window, the memory before it, and the model's output for its targets."""
    device = next(model.parameters()).device
    memory = None
    for window in windows(text, length=length, batch_size=batch_size, stride=stride):
        tokens, targets = window.tokens.to(device), window.targets.to(device)
        output = model(tokens, memory, targets=targets, again=window.again)
        yield window, memory, output
        memory = output.memory


def swept(model: DEQTransformer, segment: Segment, sweep: Sweep) -> dict[str, deq.Solution]:
    """Solves a segment from zero by each solver, with the states after every evaluation in `trajectory`."""
    f, start, every = model.map(segment), model.start(segment), range(1, sweep.evaluations + 1)
    if model.equilibrium.steps is not None:
        return {"unrolled": unrolled(f, start, sweep.evaluations, record=every)}
    stop = deq.Stop(max_steps=sweep.evaluations, tol=None)
    return {
        name: deq.fixed_point(f, start, solver=solver, stop=stop, record=every)
        for name, solver in sweep.solvers.items()
    }
