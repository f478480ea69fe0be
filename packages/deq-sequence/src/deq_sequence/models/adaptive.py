"""Adaptive embedding and softmax for large vocabularies: clusters of rare tokens get narrower vectors."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from deq_sequence.config import Architecture


class AdaptiveEmbedding(nn.Module):
    """Embeds tokens (B, T) as vectors (B, T, width), scaled by sqrt(width) (Baevski & Auli, ICLR 2019)."""

    def __init__(self, size: Architecture) -> None:
        super().__init__()
        self.edges = size.edges
        self.width = size.width
        self.tables = nn.ModuleList(
            nn.Embedding(last - first, width)
            for (first, last), width in zip(pairwise(size.edges), size.widths, strict=True)
        )
        self.projections = nn.ModuleList(
            nn.Linear(width, size.width, bias=False) for width in size.widths if size.projected
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=size.initial)

    def forward(self, tokens: Tensor) -> Tensor:
        scale = math.sqrt(self.width)
        if len(self.tables) == 1:
            return scale * self._embed(0, tokens)
        flat = tokens.flatten()
        out = self.table(0).new_zeros(len(flat), self.width)
        found = 0
        for cluster, (first, last) in enumerate(pairwise(self.edges)):
            (places,) = torch.where((flat >= first) & (flat < last))
            found += len(places)
            out = out.index_copy(0, places, self._embed(cluster, flat[places] - first).to(out.dtype))
        if found != len(flat):
            raise IndexError(
                f"tokens must be from 0 to {self.edges[-1] - 1}, got {int(flat.min())} to {int(flat.max())}: "
                "they were made with another vocabulary"
            )
        return scale * out.unflatten(0, tokens.shape)

    def table(self, cluster: int) -> Tensor:
        """Embeddings of one cluster's tokens, (tokens, width of the cluster)."""
        return self.tables[cluster].weight  # pyright: ignore[reportReturnType]  nn.Embedding's parameter

    def projection(self, cluster: int) -> Tensor:
        """Projection of a cluster's embeddings to the model's width, (width, width of the cluster)."""
        return self.projections[cluster].weight  # pyright: ignore[reportReturnType]  nn.Linear's parameter

    def _embed(self, cluster: int, tokens: Tensor) -> Tensor:
        vectors = self.tables[cluster](tokens)
        return self.projections[cluster](vectors) if len(self.projections) else vectors


class AdaptiveSoftmax(nn.Module):
    """Log-probabilities of tokens from states (Grave et al., ICML 2017); weights may be tied to the embedding's.

    The head decides between the first cluster's tokens and the other clusters. The probability of a rare token is that
    of its cluster times that of the token within the cluster. The embedding is an argument of every call, so that tied
    weights exist once.
    """

    def __init__(self, size: Architecture) -> None:
        super().__init__()
        self.edges = size.edges
        self.projected = size.projected
        clusters = len(size.widths)
        self.biases = nn.ParameterList(torch.zeros(last - first) for first, last in pairwise(size.edges))
        self.tables = nn.ParameterDict()
        self.projections = nn.ParameterDict()
        for cluster, ((first, last), width) in enumerate(zip(pairwise(size.edges), size.widths, strict=True)):
            if not size.tied_tables:
                self.tables[str(cluster)] = nn.Parameter(size.initial * torch.randn(last - first, width))
            if size.projected and not size.tied_projections[cluster]:
                self.projections[str(cluster)] = nn.Parameter(size.initial * torch.randn(size.width, width))
        self.cluster_weight = nn.Parameter(size.initial * torch.randn(clusters - 1, size.embedding))
        self.cluster_bias = nn.Parameter(torch.zeros(clusters - 1))

    def losses(self, states: Tensor, targets: Tensor, embedding: AdaptiveEmbedding) -> Tensor:
        """-log p(target), in nats: states (..., width) and targets (...) → (...)."""
        flat, wanted = rearrange(states, "... width -> (...) width"), targets.flatten()
        head = self._head(flat, embedding)
        # In the head, a rare token is represented by the column of its cluster.
        column = wanted
        for cluster in range(1, len(self.biases)):
            inside = (wanted >= self.edges[cluster]) & (wanted < self.edges[cluster + 1])
            column = torch.where(inside, head.shape[1] - cluster, column)
        out = -head.gather(1, column[:, None])[:, 0]
        for cluster in range(1, len(self.biases)):
            first, last = self.edges[cluster], self.edges[cluster + 1]
            (places,) = torch.where((wanted >= first) & (wanted < last))
            within = self._tail(flat[places], cluster, embedding).gather(1, wanted[places, None] - first)[:, 0]
            out = out.index_add(0, places, -within.to(out.dtype))
        return out.unflatten(0, targets.shape)

    def log_probs(self, states: Tensor, embedding: AdaptiveEmbedding) -> Tensor:
        """log p of every token, (..., width) → (..., vocabulary)."""
        head = self._head(states, embedding)
        parts = [head[..., : self.edges[1]]]
        for cluster in range(1, len(self.biases)):
            parts.append(head[..., -cluster, None] + self._tail(states, cluster, embedding))
        return torch.cat(parts, dim=-1)

    def _head(self, states: Tensor, embedding: AdaptiveEmbedding) -> Tensor:
        """log p of the first cluster's tokens, then of the other clusters, last cluster first."""
        weight = torch.cat([self._table(0, embedding), self.cluster_weight])
        bias = torch.cat([self.biases[0], self.cluster_bias])
        return log_softmax(F.linear(self._narrow(states, 0, embedding), weight, bias))

    def _tail(self, states: Tensor, cluster: int, embedding: AdaptiveEmbedding) -> Tensor:
        """log p of a cluster's tokens, conditional on the cluster."""
        narrow = self._narrow(states, cluster, embedding)
        return log_softmax(F.linear(narrow, self._table(cluster, embedding), self.biases[cluster]))

    def _narrow(self, states: Tensor, cluster: int, embedding: AdaptiveEmbedding) -> Tensor:
        """States projected to the width of a cluster's embeddings."""
        if not self.projected:
            return states
        own = str(cluster) in self.projections
        return states @ (self.projections[str(cluster)] if own else embedding.projection(cluster))

    def _table(self, cluster: int, embedding: AdaptiveEmbedding) -> Tensor:
        return self.tables[str(cluster)] if len(self.tables) else embedding.table(cluster)


def log_softmax(logits: Tensor) -> Tensor:
    """Log-softmax along the last dimension, in at least float32: bfloat16 gives a loss of 4 nats two digits."""
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
