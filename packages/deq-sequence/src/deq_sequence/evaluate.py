"""How well a model predicts a text: the released protocol, segment after segment with memory."""

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
    """Losses and residuals, added up over the segments of a text."""

    tokens: int = 0
    """Predictions counted."""
    nats: float = 0.0
    """Sum of their losses, -log p."""
    solves: int = 0
    """Rows of segments, each of which is a solve."""
    residuals: float = 0.0
    steps: float = 0.0
    converged: float = 0.0

    def add(self, losses: Tensor, residual: Tensor) -> None:
        """Counts losses (B, T) and residuals (B,) of a segment."""
        self.tokens += losses.numel()
        self.nats += float(losses.double().sum())
        self.solves += len(residual)
        self.residuals += float(residual.double().sum())

    @property
    def loss(self) -> float:
        """Mean loss of a token, nats."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity(self.loss)

    @property
    def residual(self) -> float:
        """Mean relative residual of a solve's result."""
        return self.residuals / self.solves


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is measured beside the reported solve."""

    solvers: Mapping[str, deq.Solver]
    """By what they are called; a model with `steps` is swept over its depth instead."""
    evaluations: int
    """The last one that is measured."""
    tokens: int | None = None
    """Of the text, from its rows' beginnings; None is all."""


@dataclass(frozen=True)
class Measured:
    """A model on a text."""

    score: Score = field(default_factory=Score)
    """Of the reported solve."""
    sweep: dict[str, list[Score]] = field(default_factory=dict)
    """After each evaluation, by solver."""


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
    """Perplexity of a model on a text, and its sweep over evaluations.

    Memory is that of the reported solve throughout. A point of the sweep is thus what one segment gains from one more
    evaluation; the state measured is that which a solve of so many evaluations returns, the best so far.

    Args:
        model: in evaluation mode; its `equilibrium` says how it is solved and what it remembers.
        text: (N,) tokens. Every row's tokens but the first are predicted once; see `windows`.
        length: tokens of a segment.
        batch_size: rows of the text, read side by side.
        stride: tokens from segment to segment; None is `length`.
        sweep: further solves of each segment.
        found: added to and returned, so that what was measured is there after an error too.

    Raises:
        NonFiniteError: a prediction is not finite.
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
    """Reads a text: each window, the memory that it is read with, and what the model says of its targets."""
    device = next(model.parameters()).device
    memory = None
    for window in windows(text, length=length, batch_size=batch_size, stride=stride):
        tokens, targets = window.tokens.to(device), window.targets.to(device)
        output = model(tokens, memory, targets=targets, again=window.again)
        yield window, memory, output
        memory = output.memory


def swept(model: DEQTransformer, segment: Segment, sweep: Sweep) -> dict[str, deq.Solution]:
    """Solves of a segment from zero, each with its states after every evaluation in `trajectory`."""
    f, start, every = model.map(segment), model.start(segment), range(1, sweep.evaluations + 1)
    if model.equilibrium.steps is not None:
        return {"unrolled": unrolled(f, start, sweep.evaluations, record=every)}
    stop = deq.Stop(max_steps=sweep.evaluations, tol=None)
    return {
        name: deq.fixed_point(f, start, solver=solver, stop=stop, record=every)
        for name, solver in sweep.solvers.items()
    }
