"""One way to solve the pairs of a set, densely or by the delta rule, and what it costs.

The update block is evaluated by `deq_core.delta.to_delta`; encoders, correlation and upsampling are no part of the
solve and are not counted. Two counts stand beside each other. `macs_*` are multiply-accumulates of the whole block:
kernel area, borders and the layers left dense included, and what the GRU makes of the context once a solve, since it
stays as it is; `macs_repeated` has it at every evaluation. `release_*` is the release's own count of the layers under
the rule, which leaves the kernel area out (`deq_core` says what else).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import deq_core as deq
from deq_core.delta import DeltaMeter
from deq_core.experiment.study.delta import FIELDS, Counted, RunConfig, add, delta_cell, shares
from deq_core.experiment.tables import Row
from deq_flow.data.samples import FlowSample
from deq_flow.evaluation.sequences import start_from
from deq_flow.evaluation.sets import SETS
from deq_flow.finite import require_finite
from deq_flow.metrics import PROTOCOLS, sample_metrics
from deq_flow.models import DEQFlow
from deq_flow.models.cell import UpdateBlock
from deq_flow.models.network import Pair, State, flow_found
from deq_flow.models.padding import Padding
from deq_flow.studies.changes import COUNTS, Changes, changed_shares

Start = Literal["cold", "warm", "reuse", "reuse_interpolated", "stream"]
"""As in `evaluation.sequences.start_from`; "stream" is reuse that keeps the delta memories too."""
LEFT = ("dense", "sparse", "pixels", "tiles")


class Run:
    """A run on its way through a set: solves pair after pair, and adds up."""

    def __init__(self, model: DEQFlow, config: RunConfig[Start], skip: Sequence[str]) -> None:
        self.model, self.config = model, config
        self.names: list[str] = []
        self.metrics: list[dict[str, float]] = []
        """Of the pair of each name: `sample_metrics`, and the residual as the solve saw it."""
        self.counts: Tensor | None = None
        self.changes: Tensor | None = None
        self.example: Tensor | None = None
        """(evaluations, h, w) of the first scene: the share of channels that changed, at its last pair."""
        self.prices = Prices.of(model.update_block, skip)
        self.evaluated = self.encoded = 0  # cells, over all evaluations and over all pairs
        self._block, self._meter = None, None
        if config.rule is not None and config.threshold is not None:
            self._block, self._meter = delta_cell(
                model.update_block, config.rule, config.threshold, skip=skip, across_solves=config.start == "stream"
            )
        self.begin()

    def begin(self) -> None:
        """Forgets the scenes solved so far."""
        self._states: tuple[State, ...] | None = None
        self._seen: Tensor | None = None
        if self._meter is not None:
            self._meter.forget()

    @torch.no_grad()
    def solve(self, pair: Pair, padding: Padding, samples: Sequence[FlowSample], *, of: str) -> None:
        """Solves the next pair of each of some scenes of the set `of`, encoded as `pair` after `padding`.

        Raises:
            NonFiniteError: the flow of one of them is not finite.
        """
        config = self.config
        states = start_from("reuse" if config.start == "stream" else config.start, self._states)
        cold, start = self.model.start(pair), self.model.start(pair, None if states is None else states[0])
        f = self.model.map(pair, self._block)
        if self._meter is None or config.threshold is None:
            solution = deq.fixed_point(f, start, solver=config.solver, stop=config.stop, on_failure="ignore")
        else:
            counted = Counted(f, self._meter)
            changes = Changes(config.threshold, self._seen if config.start == "stream" else None)

            def watched(hidden: Tensor, unknown: Tensor) -> tuple[Tensor, Tensor]:
                changes.see(hidden)
                return counted(hidden, unknown)

            solution = deq.fixed_point(watched, start, solver=config.solver, stop=config.stop, on_failure="ignore")
            self.counts = add(self.counts, self._refreshed(counted.counts))
            self.changes = add(self.changes, torch.stack(changes.counts))
            self._seen = changes.previous
            self.example = torch.stack(changes.maps)[:, 0]
        hidden, unknown = solution.value
        flow = unknown - cold[1]  # a cold start's unknown is where flow 0 lies
        self._states = ((hidden, flow),)
        cells = flow[:, 0].numel()
        self.encoded += cells
        self.evaluated += cells * solution.nfe
        prediction = padding.crop(pair.finish(flow_found(flow, solution), hidden)).cpu()
        for index, sample in enumerate(samples):
            require_finite(prediction[index], f"{of}, {config.variant}, {config.start}, {sample.name}")
            metrics = sample_metrics(prediction[index], sample.flow, sample.valid)
            self.names.append(sample.name)
            self.metrics.append({**metrics, "residual": float(solution.residual[index])})

    def row(self, name: str) -> Row:
        """The row of the set `name`: error by its benchmark's protocol, and the work of all solves together."""
        measured: Row = {"pairs": len(self.names), **PROTOCOLS[SETS[name].protocol](self.metrics)}
        repeated = self.prices.block * self.evaluated
        dense = repeated - self.prices.context * (self.evaluated - self.encoded)
        work: dict[str, float] = {"macs_dense": dense, "macs_sparse": dense, "macs_saved": 0.0}
        if (counts := self._hoisted()) is not None:
            work = self._whole(shares(counts), self.evaluated)
        return {**self.config.columns(), **measured, **work, "macs_repeated": repeated}

    def by_sample(self) -> list[Row]:
        """One row a pair."""
        pairs = zip(self.names, self.metrics, strict=True)
        return [{**self.config.columns(), "name": pair, **metrics} for pair, metrics in pairs]

    def by_evaluation(self) -> list[Row]:
        """One row an evaluation: what was skipped, and which shares of the hidden state still changed."""
        rows: list[Row] = []
        if (hoisted := self._hoisted()) is not None and self.changes is not None:
            for index, (counts, changes) in enumerate(zip(hoisted, self.changes, strict=True)):
                work = self._whole(shares(counts), float(changes[COUNTS.index("pixels")]))
                rows.append({**self.config.columns(), "evaluation": index + 1, **work, **changed_shares(changes)})
        return rows

    def by_layer(self) -> list[Row]:
        """One row a layer under the rule, over all evaluations."""
        if (hoisted := self._hoisted()) is None or self._meter is None:
            return []
        layers = zip(self._meter.layers, hoisted.unbind(dim=1), strict=True)
        return [{**self.config.columns(), "layer": layer, **shares(counts)} for layer, counts in layers]

    def _hoisted(self) -> Tensor | None:
        """`counts` whose dense work has the context once a solve, at its first evaluation."""
        if self.counts is None or self._meter is None:
            return None
        counts = self.counts.clone()
        counts[1:, :, FIELDS.index("dense_macs")] *= self._beside_context(self._meter)
        return counts

    def _refreshed(self, counts: Tensor) -> Tensor:
        """The counts of a solve, whose later dense evaluations need not repeat the context either."""
        rule, meter = self.config.rule, self._meter
        if meter is not None and rule is not None and rule.refresh_every is not None:
            sparse, dense = (counts[1:, :, FIELDS.index(f"{kind}_macs")] for kind in ("sparse", "dense"))
            sparse *= torch.where(sparse == dense, self._beside_context(meter), 1.0)
        return counts

    def _beside_context(self, meter: DeltaMeter) -> Tensor:
        """(layers,): the share of the inputs of each layer under the rule that is not the context."""
        block, found = self.model.update_block, []
        for name in meter.layers:
            layer = block.get_submodule(name)
            context = block.gru.context if name.startswith("gru.") else 0
            found.append(1 - context / layer.in_channels if isinstance(layer, nn.Conv2d) else 1.0)
        return torch.tensor(found, dtype=torch.float64)

    def _whole(self, work: dict[str, float], cells: float) -> dict[str, float]:
        """`work` of the layers under the rule, with that of the layers left dense on `cells` everywhere."""
        left = {f"macs_{name}": work[f"macs_{name}"] + self.prices.left * cells for name in LEFT}
        return {**work, **left, "macs_saved": 1 - left["macs_sparse"] / left["macs_dense"]}


@dataclass(frozen=True)
class Prices:
    """Multiply-accumulates that an evaluation of an update block takes for each cell of the grid."""

    block: int
    """Of all layers: every convolution has stride 1 and keeps the size."""
    context: int
    """Of that, what the GRU makes of the context, which need be computed only once a solve."""
    left: int
    """Of that, layers that stay dense."""

    @classmethod
    def of(cls, block: UpdateBlock, skip: Sequence[str]) -> "Prices":
        """The prices of `block`, where the layers below `skip` stay dense."""
        sizes = {name: layer.weight.numel() for name, layer in block.named_modules() if isinstance(layer, nn.Conv2d)}
        gru = [layer for layer in block.gru.modules() if isinstance(layer, nn.Conv2d)]
        context = sum(layer.weight[:, : block.gru.context].numel() for layer in gru)
        left = sum(size for name, size in sizes.items() if any(name == s or name.startswith(f"{s}.") for s in skip))
        return cls(sum(sizes.values()), context, left)
