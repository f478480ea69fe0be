"""Architectures of the language models, and how they are solved."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import deq_core as deq
from deq_core.experiment.config.layer import OnFailure


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Widths and modules of a DEQ-Transformer (Bai et al., NeurIPS 2019); the defaults are those of WikiText-103.

    Attributes:
        vocabulary: size of the vocabulary; with cutoffs, tokens are in order of decreasing frequency
        cutoffs: first tokens of the further clusters of the adaptive embedding and softmax (Baevski & Auli, ICLR 2019;
            Grave et al., ICML 2017); empty for one table and a plain softmax
        division: ratio of the widths of embeddings from one cluster to the next
        embedding: width of the first cluster's embeddings
        width: width of the state of a token
        heads, head_width: number and width of the attention heads
        inner: width of the feed-forward layer
        norm: "post": layer norm after attention and after the feed-forward layer. "pre": before both. Neither has
            weights; the feed-forward layer's residual is normalised in both, as released
        horizon: number of positions that attention reaches back, itself included
        dropout: dropout of embeddings, positions, outputs of attention and feed-forward layer, and the final state
        attention_dropout: dropout of attention weights
        output_dropout: mask of the final state: "positions" drops whole positions, as released; "channels" drops
            channels at all positions, as for the embeddings
        weight_norm: whether the cell's layers have weight normalisation
        tied_tables: whether the softmax's weights are the embeddings (Press & Wolf, EACL 2017)
        tied_projections: for each cluster with a projection, whether the softmax uses the embedding's; one parameter
            here, two with shared storage in the release
        initial: standard deviation of initial embeddings, projections and injection; the cell starts with torch's
            initialisation, as in the release, whose own is overwritten
    """

    vocabulary: int = 267_735
    cutoffs: tuple[int, ...] = (20_000, 40_000, 200_000)
    division: int = 4
    embedding: int = 700
    width: int = 700
    heads: int = 10
    head_width: int = 70
    inner: int = 48_000
    norm: Literal["post", "pre"] = "post"
    horizon: int = 1000
    dropout: float = 0.05
    attention_dropout: float = 0.0
    output_dropout: Literal["positions", "channels"] = "positions"
    weight_norm: bool = True
    tied_tables: bool = True
    tied_projections: tuple[bool, ...] = (False, True, True, True)
    initial: float = 0.01

    def __post_init__(self) -> None:
        edges = self.edges
        if any(first >= second for first, second in pairwise(edges)):
            raise ValueError(
                f"cutoffs must ascend between 1 and vocabulary - 1 = {self.vocabulary - 1}, got {self.cutoffs}"
            )
        if self.division < 1 or min(self.widths) < 1:
            raise ValueError(
                f"embedding // division ** cluster must be at least 1 for each of the {len(self.widths)} clusters, got "
                f"embedding {self.embedding} and division {self.division}"
            )
        if self.width % 2:
            raise ValueError(f"width must be even, half sines and half cosines of a position, got {self.width}")
        if min(self.width, self.heads, self.head_width, self.inner, self.horizon) < 1:
            raise ValueError(
                "width, heads, head_width, inner and horizon must be at least 1, got "
                f"{self.width}, {self.heads}, {self.head_width}, {self.inner} and {self.horizon}"
            )
        projected = len(self.widths) if self.projected else 0
        if len(self.tied_projections) != projected:
            raise ValueError(
                f"tied_projections needs one entry for each of the {projected} clusters with a projection, "
                f"got {self.tied_projections}"
            )
        if self.norm not in ("post", "pre"):
            raise ValueError(f"norm must be 'post' or 'pre', got {self.norm!r}")
        if self.output_dropout not in ("positions", "channels"):
            raise ValueError(f"output_dropout must be 'positions' or 'channels', got {self.output_dropout!r}")

    @property
    def edges(self) -> tuple[int, ...]:
        """First token of every cluster, and the size of the vocabulary."""
        return (0, *self.cutoffs, self.vocabulary)

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of every cluster's embeddings."""
        return tuple(self.embedding // self.division**cluster for cluster in range(len(self.cutoffs) + 1))

    @property
    def projected(self) -> bool:
        """Whether embeddings are projected to the state's width; always if `division` is above 1, as in the release."""
        return self.division > 1 or self.embedding != self.width

    @property
    def attention(self) -> int:
        """Channels of the queries, as of the keys and of the values: heads * head_width."""
        return self.heads * self.head_width


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """How the fixed point is solved for and differentiated, and how much memory is kept.

    Attributes:
        solver, stop: solver and stopping rule of the forward solve
        eval_stop: stopping rule in evaluation; `stop` if None
        adjoint: gradient through the solve
        memory: number of positions remembered from segment to segment; may be 0
        steps: depth of the weight-tied transformer, which unrolls as many plain evaluations of the cell from zero; None
            solves for the equilibrium
        on_failure: what a solve does when samples miss the tolerance
    """

    solver: deq.Solver = field(default_factory=lambda: RELEASED_ANDERSON)
    stop: deq.Stop = field(default_factory=lambda: deq.Stop(max_steps=30, tol=1e-3))
    eval_stop: deq.Stop | None = None
    adjoint: deq.Adjoint = field(
        default_factory=lambda: deq.Implicit(deq.Broyden(), deq.Stop(max_steps=35, tol=1e-3), on_failure="ignore")
    )
    memory: int = 150
    steps: int | None = None
    on_failure: OnFailure = "ignore"

    def __post_init__(self) -> None:
        if self.memory < 0:
            raise ValueError(f"memory must be at least 0 positions, got {self.memory}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1 evaluation of the cell, or None to solve, got {self.steps}")


RELEASED_ANDERSON = deq.Anderson(window=6, ridge=1e-4, relative_ridge=False)
"""The solver of the released code, whose ridge is absolute."""

WT103 = Architecture()
# With Jacobian regularisation fewer steps suffice (Bai et al., ICML 2021).
WT103_REG = replace(WT103, dropout=0.06, attention_dropout=0.01)
WT103_PRELN_REG = replace(WT103_REG, norm="pre")


def _regularised(steps: int, backward: int) -> Equilibrium:
    adjoint = deq.Implicit(deq.Broyden(), deq.Stop(max_steps=backward, tol=1e-3), on_failure="ignore")
    return Equilibrium(stop=deq.Stop(max_steps=steps, tol=1e-3), adjoint=adjoint, memory=300)


# For corpora of a few megabytes, trained on a CPU in minutes: characters, and byte pairs.
MINI = Architecture(
    vocabulary=128,
    cutoffs=(),
    division=1,
    embedding=64,
    width=64,
    heads=4,
    head_width=16,
    inner=256,
    dropout=0.0,
    output_dropout="channels",
    tied_projections=(),
    initial=0.1,
)
MINI_WIDE = replace(MINI, vocabulary=768, embedding=96, width=96, head_width=24, inner=384)
MINI_EQUILIBRIUM = Equilibrium(
    solver=deq.Anderson(window=5),
    stop=deq.Stop(max_steps=12, tol=1e-3),
    eval_stop=deq.Stop(max_steps=24, tol=1e-3),
    adjoint=deq.Implicit(deq.Anderson(window=5), deq.Stop(max_steps=8, tol=1e-3), on_failure="ignore"),
    memory=64,
)

VARIANTS = {
    "wt103": (WT103, Equilibrium()),
    "wt103-reg": (WT103_REG, _regularised(12, 13)),
    "wt103-preln-reg": (WT103_PRELN_REG, _regularised(14, 14)),
    "mini": (MINI, MINI_EQUILIBRIUM),
    "mini-wide": (MINI_WIDE, MINI_EQUILIBRIUM),
}
