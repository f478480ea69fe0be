"""DEQ-Transformer (Bai et al., NeurIPS 2019), a language model whose states are the fixed point of one layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import deq_core as deq
from deq_sequence.config import Architecture, Equilibrium
from deq_sequence.models.adaptive import AdaptiveEmbedding, AdaptiveSoftmax
from deq_sequence.models.attention import Context
from deq_sequence.models.cell import TransformerCell
from deq_sequence.models.positions import sinusoids


@dataclass(frozen=True)
class Memory:
    """The last positions read, to which the next segment attends. Detached.

    Attributes:
        states: (B, M, width) equilibria
        injections: (B, M, 3A) injections of the tokens; A = heads * head_width
    """

    states: Tensor
    injections: Tensor

    def __len__(self) -> int:
        """Number of positions."""
        return self.states.shape[1]

    def last(self, positions: int) -> "Memory":
        """The last `positions`, or all if there are fewer."""
        start = max(0, len(self) - positions)
        return Memory(self.states[:, start:], self.injections[:, start:])

    def without_last(self, positions: int) -> "Memory":
        """All but the last `positions`, for a segment that reads those again."""
        end = max(0, len(self) - positions)
        return Memory(self.states[:, :end], self.injections[:, :end])

    def followed_by(self, other: "Memory") -> "Memory":
        """This memory with `other` appended."""
        pairs = ((self.states, other.states), (self.injections, other.injections))
        states, injections = (torch.cat([first, second], dim=1) for first, second in pairs)
        return Memory(states, injections)


@dataclass(frozen=True)
class Segment:
    """An encoded segment of tokens: the inputs of the cell besides its state.

    Attributes:
        injections: (B, T, 3A) injections of its tokens
        memory: memory of the segments before
        context: both in the form that attention takes
    """

    injections: Tensor
    memory: Memory
    context: Context


@dataclass(frozen=True)
class SequenceOutput:
    """Output of a language model for tokens (B, T).

    Attributes:
        log_probs: (B, T, vocabulary) log p of the token after each; None if targets were given
        loss: mean of `losses`, nats a token; None if no targets were given
        losses: (B, T) -log p of each target; None if no targets were given
        memory: memory for the next segment; detached
        solution: result of the solve, with the states (B, T, width) in `value`
        jacobian: (B,) estimates of |df/dstate|^2 / size at the states; None if `probes` is 0
    """

    log_probs: Tensor | None
    loss: Tensor | None
    losses: Tensor | None
    memory: Memory
    solution: deq.Solution
    jacobian: Tensor | None


class DEQTransformer(nn.Module):
    """Predicts the next tokens of a segment, whose states are solved for jointly, given a memory of those before.

    `forward` consists of `encode`, `map`, `solve` and `losses`. Use them for your own solve or to study the Jacobian:
    `deq.fixed_point(model.map(segment), model.start(segment))` with `segment = model.encode(tokens, memory)`.

    The cell is causal, so its equilibria are too. A solve that has not converged is causal up to its residual, because
    solvers that combine whole states weight them by the residuals of later positions too. Plain evaluations (`steps`)
    are exactly causal.
    """

    def __init__(self, size: Architecture, equilibrium: Equilibrium) -> None:
        super().__init__()
        self.size = size
        self.equilibrium = equilibrium
        self.embedding = AdaptiveEmbedding(size)
        self.embedding_dropout = deq.nn.VariationalDropout(size.dropout, shared=(1,))
        self.injection = nn.Linear(size.width, 3 * size.attention)
        self.position_dropout = deq.nn.VariationalDropout(size.dropout, shared=(0,))
        self.cell = TransformerCell(size)
        self.output_dropout = deq.nn.VariationalDropout(
            size.dropout, shared=(2,) if size.output_dropout == "positions" else (1,)
        )
        self.softmax = AdaptiveSoftmax(size)
        nn.init.normal_(self.injection.weight, std=size.initial)
        for layer in (self.injection, self.cell.attention.output, self.cell.expand, self.cell.contract):
            nn.init.zeros_(layer.bias)
        if size.weight_norm:
            deq.nn.weight_norm_(self.cell)

    def forward(
        self,
        tokens: Tensor,
        memory: Memory | None = None,
        *,
        targets: Tensor | None = None,
        start: Tensor | None = None,
        steps: int | None = None,
        stop: deq.Stop | None = None,
        record: Sequence[int] = (),
        probes: int | Sequence[Tensor] = 0,
        again: int = 0,
    ) -> SequenceOutput:
        """Reads a segment: tokens (B, T), integers below the vocabulary's size, batch first.

        Args:
            memory: memory of the segment before, for the same rows; None at the start of a text
            targets: (B, T) next tokens; gives losses instead of log-probabilities of the whole vocabulary
            start: initial state of the solve, (B, T, width), zeros by default; ignored if its shape does not fit
            steps: number of plain evaluations of the cell instead of a solve; by default the equilibrium's `steps`
            stop: stopping rule; by default the equilibrium's `stop`, or `eval_stop` in evaluation mode
            record: evaluations whose states are returned in `solution.trajectory`
            probes: random vectors of the Jacobian penalty (their number, or each (B, T, width)); 0 skips it
            again: number of last tokens that the next segment reads again, left out of the memory
        """
        with deq.solve_scope():
            segment = self.encode(tokens, memory)
            f = self.map(segment)
            solution = self.solve(f, self.start(segment, start), steps=steps, stop=stop, record=record)
            jacobian = None
            if probes != 0:
                jacobian = deq.nn.jacobian_frobenius(f, solution.value.detach(), probes=probes)
            states = self.output_dropout(solution.value)
            losses = None if targets is None else self.losses(states, targets)
            return SequenceOutput(
                log_probs=self.log_probs(states) if targets is None else None,
                loss=None if losses is None else losses.mean(),
                losses=losses,
                memory=self.remember(segment, solution.value, again=again),
                solution=solution,
                jacobian=jacobian,
            )

    def encode(self, tokens: Tensor, memory: Memory | None = None) -> Segment:
        """Embeds tokens (B, T) and projects the memory to keys and values, once for all evaluations of the cell."""
        check_tokens(tokens)
        embedded = self.embedding_dropout(self.embedding(tokens))
        injections = self.injection(embedded)
        if memory is None:
            memory = Memory(embedded.new_zeros(len(tokens), 0, self.size.width), injections[:, :0].detach())
        check_memory(memory, tokens, self.size)
        length = len(memory) + tokens.shape[1]
        positions = self.position_dropout(sinusoids(length, self.size.width, like=embedded))
        context = self.cell.context(injections, memory.states, memory.injections, positions)
        return Segment(injections, memory, context)

    def start(self, segment: Segment, previous: Tensor | None = None) -> Tensor:
        """The initial state of a solve, (B, T, width): `previous` if its shape fits, else zeros."""
        batch, length, _ = segment.injections.shape
        return deq.nn.warm_start(previous, segment.memory.states.new_zeros(batch, length, self.size.width))

    def map(self, segment: Segment, cell: TransformerCell | None = None) -> Callable[[Tensor], Tensor]:
        """The function f of the state whose fixed point is sought; gradients reach the embedding through it.

        `cell` replaces the model's own, for example by the copy that `deq.delta.to_delta` makes of it.
        """
        layer = self.cell if cell is None else cell
        return lambda state: layer(state, segment.context)

    def solve(
        self,
        f: Callable[[Tensor], Tensor],
        begin: Tensor,
        *,
        steps: int | None = None,
        stop: deq.Stop | None = None,
        record: Sequence[int] = (),
    ) -> deq.Solution:
        """The equilibrium, or the state after `steps` plain evaluations; by default as `equilibrium` has it."""
        choice = self.equilibrium
        steps = choice.steps if steps is None else steps
        if steps is not None:
            return unrolled(f, begin, steps, record)
        if stop is None:
            stop = choice.stop if self.training or choice.eval_stop is None else choice.eval_stop
        return deq.fixed_point(
            f,
            begin,
            solver=choice.solver,
            stop=stop,
            adjoint=choice.adjoint,
            record=record,
            on_failure=choice.on_failure,
        )

    def losses(self, states: Tensor, targets: Tensor) -> Tensor:
        """-log p of targets (B, T), in nats, from states (B, T, width), for example those of `solution.trajectory`."""
        if states.shape[:-1] != targets.shape:
            raise ValueError(
                f"targets must be {tuple(states.shape[:-1])} as the tokens are, got {tuple(targets.shape)}"
            )
        return self.softmax.losses(states, targets, self.embedding)

    def log_probs(self, states: Tensor) -> Tensor:
        """log p of the next token from states (B, T, width), (B, T, vocabulary)."""
        return self.softmax.log_probs(states, self.embedding)

    def remember(self, segment: Segment, states: Tensor, *, again: int = 0) -> Memory:
        """Memory for the next segment: `equilibrium.memory` positions, up to the `again` last ones; see `forward`."""
        read = Memory(states.detach(), segment.injections.detach())
        return segment.memory.followed_by(read).without_last(again).last(self.equilibrium.memory)


def unrolled(f: Callable[[Tensor], Tensor], state: Tensor, steps: int, record: Sequence[int] = ()) -> deq.Solution:
    """`steps` plain evaluations of f from `state`, unrolled for gradients: a weight-tied network of that depth.

    Unlike a solve, it returns the last state, whatever its residual.
    """
    if any(not 1 <= step <= steps for step in record):
        raise ValueError(f"record must be evaluations from 1 to {steps}, got {tuple(record)}")
    stop = deq.Stop(max_steps=steps, tol=None)
    trace: list[Tensor] = []
    trajectory: list[Tensor] = []
    with deq.cached_weights():
        for step in range(1, steps + 1):
            before, state = state, f(state)
            trace.append(stop.residual(before.flatten(1), state.flatten(1)))
            if step in record:
                trajectory.append(state)
    return deq.Solution(
        value=state,
        trajectory=tuple(trajectory),
        residual=trace[-1],
        steps=torch.full_like(trace[-1], steps, dtype=torch.long),
        outcome=deq.Outcome.of(torch.zeros_like(trace[-1], dtype=torch.bool), trace[-1] < torch.inf),
        trace=torch.stack(trace),
        nfe=steps,
        keeps="last",
    )


def check_tokens(tokens: Tensor) -> None:
    """Raises unless `tokens` is a batch of token sequences."""
    if tokens.dim() != 2 or tokens.shape[1] == 0:
        raise ValueError(f"tokens must be (B, T) with T at least 1, batch first, got shape {tuple(tokens.shape)}")
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")


def check_memory(memory: Memory, tokens: Tensor, size: Architecture) -> None:
    """Raises if the memory is of other rows or another model."""
    expected = (len(tokens), len(memory), size.width), (len(tokens), len(memory), 3 * size.attention)
    got = tuple(memory.states.shape), tuple(memory.injections.shape)
    if got != expected:
        raise ValueError(
            f"the memory must be of the same rows and model: expected states and injections {expected}, got {got}"
        )
