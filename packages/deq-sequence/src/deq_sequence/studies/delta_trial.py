"""Perplexity and work of one way to solve the segments of a text, densely or with the delta rule.

Work is the number of multiply-accumulates in the solves: those of the cell's linear layers, and the products of
attention (queries with keys, queries with distances, weights with values), which stay dense. Embedding, injection,
keys and values of the memory, and the softmax are not part of a solve. `release_*` is DeltaDEQ's own count of the
layers under the rule.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

import deq_core as deq
from deq_core.experiment.study.delta import Counted, RunConfig, add, delta_cell, shares
from deq_core.experiment.tables import Row
from deq_sequence.data.batches import Window
from deq_sequence.finite import perplexity, require_finite
from deq_sequence.initialisation import InitialStates
from deq_sequence.models.transformer import DEQTransformer, Memory

NOT_CALLED = "attention.position"
"""A layer of the cell that no evaluation calls, as distances are projected once per solve."""


Start = Literal["cold", "token", "previous", "stream"]
"""Initial state of a segment's solve: zeros; for each position the state of the last position with its token; the
states of the segment before; the same, and also the delta rule's memories of that segment."""


class Trial:
    """Reads a text segment by segment in one way, with its own memory, and accumulates losses and work."""

    def __init__(self, model: DEQTransformer, way: RunConfig[Start], skip: Sequence[str] = ()) -> None:
        self.model, self.way = model, way
        self.tokens = self.solves = self.evaluations = 0
        self.nats = self.residuals = 0.0
        self.counts: Tensor | None = None
        self._left: list[float] = []  # dense multiply-accumulates of each evaluation
        self._memory: Memory | None = None
        self._states: Tensor | None = None
        self._starts = InitialStates("token" if way.start == "token" else "cold")
        self._cell, self._meter = model.cell, None
        dense = linear_layers(model.cell)
        if way.rule is not None and way.threshold is not None:
            self._cell, self._meter = delta_cell(
                model.cell,
                way.rule,
                way.threshold,
                skip=(*skip, NOT_CALLED),
                across_solves=way.start == "stream",
            )
            dense = {name: layer for name, layer in dense.items() if name not in self._meter.layers}
        self._price = sum(layer.weight.numel() for layer in dense.values())

    @torch.no_grad()
    def read(self, window: Window) -> None:
        """Solves the next segment and scores its targets.

        Raises:
            NonFiniteError: a prediction is not finite.
        """
        model, way = self.model, self.way
        device = next(model.parameters()).device
        tokens, targets = window.tokens.to(device), window.targets.to(device)
        segment = model.encode(tokens, self._memory)
        f = model.map(segment, self._cell)
        counted = None if self._meter is None else Counted(f, self._meter)
        solution = deq.fixed_point(
            f if counted is None else counted,
            model.start(segment, self._begin(tokens)),
            solver=way.solver,
            stop=way.stop,
            check=model.map(segment),
            on_failure="ignore",
        )
        if counted is not None:
            self.counts = add(self.counts, counted.counts)
        evaluations = solution.nfe - 1  # without the one for `check`
        self._leave(evaluations, tokens.numel(), len(segment.memory) + tokens.shape[1])
        self._starts.see(tokens, solution.value)
        self._states = solution.value
        self._memory = model.remember(segment, solution.value, again=window.again)
        losses = model.losses(solution.value, targets)
        require_finite(losses, solution.residual, begin=window.begin, name=way.name)
        losses = losses[:, -window.scored :]
        self.tokens += losses.numel()
        self.nats += float(losses.double().sum())
        self.solves += len(losses)
        self.evaluations += evaluations * len(losses)
        self.residuals += float(solution.residual.double().sum())

    def row(self) -> Row:
        """Perplexity, residual of the dense cell at the states, and total work of all solves."""
        loss = self.nats / self.tokens
        return {
            **self.way.columns(),
            "tokens": self.tokens,
            "loss": loss,
            "perplexity": perplexity(loss),
            "residual": self.residuals / self.solves,
            "evaluations": self.evaluations / self.solves,
            **self._work(self.counts, sum(self._left)),
        }

    def by_evaluation(self) -> list[Row]:
        """One row per evaluation under the rule."""
        counts = () if self.counts is None else self.counts
        return [
            {**self.way.columns(), "evaluation": number, **self._work(of_one, left)}
            for number, (of_one, left) in enumerate(zip(counts, self._left, strict=self.counts is not None), start=1)
        ]

    def by_layer(self) -> list[Row]:
        """One row per layer under the rule, over all evaluations."""
        if self.counts is None or self._meter is None:
            return []
        layers = zip(self._meter.layers, self.counts.unbind(dim=1), strict=True)
        return [{**self.way.columns(), "layer": layer, **shares(counts)} for layer, counts in layers]

    def _begin(self, tokens: Tensor) -> Tensor | None:
        if self.way.start in ("previous", "stream"):
            return self._states
        return self._starts.begin(tokens)

    def _leave(self, evaluations: int, positions: int, seen: int) -> None:
        """Adds the dense work of a segment's evaluations: layers not under the rule, and products of attention."""
        products = positions * (self._price + 3 * seen * self.model.size.attention)
        self._left += [0.0] * (evaluations - len(self._left))
        for number in range(evaluations):
            self._left[number] += products

    def _work(self, counts: Tensor | None, left: float) -> dict[str, float]:
        """MACs per token; the dense part, `left`, counts on both sides."""
        if counts is None:
            return {"macs_dense": left / self.tokens, "macs_sparse": left / self.tokens, "macs_saved": 0.0}
        work = shares(counts)
        dense, sparse = work["macs_dense"] + left, work["macs_sparse"] + left
        of_layers = {"layers_saved": work["macs_saved"], "release_saved": work["release_saved"]}
        skipped = {"elements_skipped": work["elements_skipped"], "positions_skipped": work["pixels_skipped"]}
        per_token = {
            "macs_dense": dense / self.tokens,
            "macs_sparse": sparse / self.tokens,
            "macs_pixels": (work["macs_pixels"] + left)
            / self.tokens,  # positions of tokens correspond to pixels of images
        }
        return {**per_token, "macs_saved": 1 - sparse / dense, **of_layers, **skipped}


def linear_layers(cell: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that an evaluation of the cell calls, by name."""
    return {name: layer for name, layer in cell.named_modules() if isinstance(layer, nn.Linear) and name != NOT_CALLED}
