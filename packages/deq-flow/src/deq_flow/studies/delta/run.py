"""Solves of the pairs of a set with one setting, dense or with the delta rule, and their cost.

The delta rule (`deq_core.delta.to_delta`) applies to the update block; encoders, correlation and upsampling are not
counted. There are two counts. `macs_*` are multiply-accumulates of the whole block, including kernel area, borders and
dense layers. The GRU's convolutions of the context are counted once for a solve, since the context is constant;
`macs_repeated` counts them at every evaluation. `release_*` is the release's own count of the layers with the rule. It
leaves out the kernel area, and more (see `deq_core`).
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
from deq_flow.studies.delta.changes import COUNTS, Changes, changed_shares

Start = Literal["cold", "warm", "reuse", "reuse_interpolated", "stream"]
"""As in `evaluation.sequences.start_from`; "stream" is reuse that also keeps the delta memories."""
LEFT = ("dense", "sparse", "pixels", "tiles")


class Run:
    """A run on a set, which solves pair after pair and accumulates the results."""

    def __init__(self, model: DEQFlow, config: RunConfig[Start], skip: Sequence[str]) -> None:
        self.model, self.config = model, config
        self.names: list[str] = []
        self.metrics: list[dict[str, float]] = []
        """`sample_metrics` and residual of the solve, for the pair of each name."""
        self.counts: Tensor | None = None
        self.changes: Tensor | None = None
        self.example: Tensor | None = None
        """Share of channels that changed, (evaluations, h, w), in the last pair of the first scene."""
        self.prices = Prices.of(model.update_block, skip)
        self.evaluated = self.encoded = 0  # numbers of cells over all evaluations, and over all pairs
        self._block, self._meter = None, None
        if config.rule is not None and config.threshold is not None:
            self._block, self._meter = delta_cell(
                model.update_block, config.rule, config.threshold, skip=skip, across_solves=config.start == "stream"
            )
        self.begin()

    def begin(self) -> None:
        """Resets the states and memories for the next scenes."""
        self._states: tuple[State, ...] | None = None
        self._seen: Tensor | None = None
        if self._meter is not None:
            self._meter.forget()

    @torch.no_grad()
    def solve(self, pair: Pair, padding: Padding, samples: Sequence[FlowSample], *, of: str) -> None:
        """Solves the next pair of each scene in a batch, of the set `of`, encoded as `pair` after `padding`.

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
        flow = unknown - cold[1]  # a cold start has the unknown of zero flow
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
        """One row for each pair."""
        pairs = zip(self.names, self.metrics, strict=True)
        return [{**self.config.columns(), "name": pair, **metrics} for pair, metrics in pairs]

    def by_evaluation(self) -> list[Row]:
        """One row for each evaluation: skipped work, and the shares of the hidden state that still change."""
        rows: list[Row] = []
        if (hoisted := self._hoisted()) is not None and self.changes is not None:
            for index, (counts, changes) in enumerate(zip(hoisted, self.changes, strict=True)):
                work = self._whole(shares(counts), float(changes[COUNTS.index("pixels")]))
                rows.append({**self.config.columns(), "evaluation": index + 1, **work, **changed_shares(changes)})
        return rows

    def by_layer(self) -> list[Row]:
        """One row for each layer with the rule, over all evaluations."""
        if (hoisted := self._hoisted()) is None or self._meter is None:
            return []
        layers = zip(self._meter.layers, hoisted.unbind(dim=1), strict=True)
        return [{**self.config.columns(), "layer": layer, **shares(counts)} for layer, counts in layers]

    def _hoisted(self) -> Tensor | None:
        """`counts` whose dense work includes the context only in the first evaluation of a solve."""
        if self.counts is None or self._meter is None:
            return None
        counts = self.counts.clone()
        counts[1:, :, FIELDS.index("dense_macs")] *= self._beside_context(self._meter)
        return counts

    def _refreshed(self, counts: Tensor) -> Tensor:
        """The counts of a solve, in which later refreshes, which are dense, exclude the context too."""
        rule, meter = self.config.rule, self._meter
        if meter is not None and rule is not None and rule.refresh_every is not None:
            sparse, dense = (counts[1:, :, FIELDS.index(f"{kind}_macs")] for kind in ("sparse", "dense"))
            sparse *= torch.where(sparse == dense, self._beside_context(meter), 1.0)
        return counts

    def _beside_context(self, meter: DeltaMeter) -> Tensor:
        """Share of the inputs of each layer with the rule that are not the context, (layers,)."""
        block, found = self.model.update_block, []
        for name in meter.layers:
            layer = block.get_submodule(name)
            context = block.gru.context if name.startswith("gru.") else 0
            found.append(1 - context / layer.in_channels if isinstance(layer, nn.Conv2d) else 1.0)
        return torch.tensor(found, dtype=torch.float64)

    def _whole(self, work: dict[str, float], cells: float) -> dict[str, float]:
        """`work` of the layers with the rule, plus that of the dense layers on `cells` cells."""
        left = {f"macs_{name}": work[f"macs_{name}"] + self.prices.left * cells for name in LEFT}
        return {**work, **left, "macs_saved": 1 - left["macs_sparse"] / left["macs_dense"]}


@dataclass(frozen=True)
class Prices:
    """Multiply-accumulates of an evaluation of an update block for each cell of the grid."""

    block: int
    """Those of all layers; every convolution has stride 1 and keeps the size."""
    context: int
    """Those of the GRU's convolutions of the context, which are needed only once for a solve."""
    left: int
    """Those of the layers that stay dense."""

    @classmethod
    def of(cls, block: UpdateBlock, skip: Sequence[str]) -> "Prices":
        """The prices of `block` if the layers in `skip` stay dense."""
        sizes = {name: layer.weight.numel() for name, layer in block.named_modules() if isinstance(layer, nn.Conv2d)}
        gru = [layer for layer in block.gru.modules() if isinstance(layer, nn.Conv2d)]
        context = sum(layer.weight[:, : block.gru.context].numel() for layer in gru)
        left = sum(size for name, size in sizes.items() if any(name == s or name.startswith(f"{s}.") for s in skip))
        return cls(sum(sizes.values()), context, left)
