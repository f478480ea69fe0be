"""Adaptive embedding and softmax: one distribution over all tokens, whatever the clusters."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deq_sequence.config import Architecture
from deq_sequence.models.adaptive import AdaptiveEmbedding, AdaptiveSoftmax

CLUSTERS: dict[str, Any] = {"vocabulary": 30, "cutoffs": (10, 18), "division": 2, "embedding": 12, "width": 8}
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"vocabulary": 30, "cutoffs": (), "division": 1, "embedding": 8, "width": 8, "tied_projections": ()},
    "projected": {**CLUSTERS, "cutoffs": (), "tied_projections": (True,)},
    "clusters": {**CLUSTERS, "tied_projections": (False, True, True)},
    "untied": {**CLUSTERS, "tied_projections": (False, False, False), "tied_tables": False},
}


def modules(**fields: Any) -> tuple[AdaptiveEmbedding, AdaptiveSoftmax]:
    torch.manual_seed(0)
    size = Architecture(**fields, initial=0.5)
    embedding, softmax = AdaptiveEmbedding(size).double(), AdaptiveSoftmax(size).double()
    with torch.no_grad():
        for bias in (*softmax.biases, softmax.cluster_bias):
            bias.normal_()
    return embedding, softmax


def some_states(*shape: int) -> Tensor:
    return torch.randn(*shape, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_probabilities_sum_to_one(layout: str) -> None:
    embedding, softmax = modules(**LAYOUTS[layout])
    log_probs = softmax.log_probs(some_states(2, 3), embedding)
    assert log_probs.shape == (2, 3, 30)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 3, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_are_the_targets_log_probabilities(layout: str) -> None:
    embedding, softmax = modules(**LAYOUTS[layout])
    states, targets = some_states(2, 15), torch.arange(30).reshape(2, 15)
    losses = softmax.losses(states, targets, embedding)
    log_probs = softmax.log_probs(states, embedding)
    torch.testing.assert_close(losses, -log_probs.gather(-1, targets[..., None])[..., 0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_have_the_gradients_of_log_probabilities(layout: str) -> None:
    embedding, softmax = modules(**LAYOUTS[layout])
    states, targets = some_states(2, 15).requires_grad_(), torch.arange(30).reshape(2, 15)
    parameters = [states, *softmax.parameters(), *embedding.parameters()]
    losses = softmax.losses(states, targets, embedding).sum()
    whole = -softmax.log_probs(states, embedding).gather(-1, targets[..., None]).sum()
    pairs = zip(
        torch.autograd.grad(losses, parameters, allow_unused=True),
        torch.autograd.grad(whole, parameters, allow_unused=True),
        strict=True,
    )
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_it_is_the_softmax_of_torch_where_nothing_is_tied() -> None:
    # Torch's has the first cluster's column first, no biases in the tails, and no projection of the head.
    embedding, softmax = modules(
        vocabulary=30,
        cutoffs=(10, 18),
        division=2,
        embedding=8,
        width=8,
        tied_projections=(False, False, False),
        tied_tables=False,
    )
    theirs = nn.AdaptiveLogSoftmaxWithLoss(8, 30, [10, 18], div_value=2.0, head_bias=True).double()
    with torch.no_grad():
        softmax.projections["0"].copy_(torch.eye(8))
        theirs.head.weight.copy_(torch.cat([softmax.tables["0"], softmax.cluster_weight.flip(0)]))
        assert theirs.head.bias is not None
        theirs.head.bias.copy_(torch.cat([softmax.biases[0], softmax.cluster_bias.flip(0)]))
        for cluster in (1, 2):
            softmax.biases[cluster].zero_()
            narrow, wide = theirs.tail[cluster - 1]  # pyright: ignore[reportGeneralTypeIssues]  a sequence of two
            narrow.weight.copy_(softmax.projections[str(cluster)].T)
            wide.weight.copy_(softmax.tables[str(cluster)])
    states, targets = some_states(30), torch.arange(30)
    torch.testing.assert_close(softmax.losses(states, targets, embedding), -theirs(states, targets).output)
    torch.testing.assert_close(softmax.log_probs(states, embedding), theirs.log_prob(states))


def test_embeddings_are_scaled_and_projected() -> None:
    embedding, _ = modules(**LAYOUTS["clusters"])
    tokens = torch.arange(30).reshape(5, 6)
    found = embedding(tokens)
    for token in range(30):
        cluster = sum(token >= edge for edge in (10, 18))
        vector = embedding.table(cluster)[token - (0, 10, 18)[cluster]]
        expected = 8**0.5 * embedding.projection(cluster) @ vector
        torch.testing.assert_close(found[token // 6, token % 6], expected)


def test_a_tied_parameter_receives_the_gradients_of_both_uses() -> None:
    fields = LAYOUTS["clusters"]
    embedding, softmax = modules(**fields)
    own_embedding, own_softmax = modules(**{**fields, "tied_projections": (False,) * 3, "tied_tables": False})
    own_embedding.load_state_dict(embedding.state_dict())
    with torch.no_grad():
        for name, parameter in own_softmax.named_parameters():
            kind, _, cluster = name.partition(".")
            if kind == "tables":
                parameter.copy_(embedding.table(int(cluster)))
            elif kind == "projections" and cluster != "0":
                parameter.copy_(embedding.projection(int(cluster)))
            else:
                parameter.copy_(dict(softmax.named_parameters())[name])
    tokens, targets = torch.arange(30).reshape(2, 15), torch.arange(29, -1, -1).reshape(2, 15)
    for inputs, outputs in ((embedding, softmax), (own_embedding, own_softmax)):
        outputs.losses(inputs(tokens), targets, inputs).sum().backward()
    for cluster in range(3):
        table, own = embedding.table(cluster).grad, own_embedding.table(cluster).grad
        assert table is not None
        torch.testing.assert_close(table, own + own_softmax.tables[str(cluster)].grad)
    for cluster in (1, 2):
        projection, own = embedding.projection(cluster).grad, own_embedding.projection(cluster).grad
        assert projection is not None
        torch.testing.assert_close(projection, own + own_softmax.projections[str(cluster)].grad)


@pytest.mark.parametrize("token", [-1, 30])
def test_a_token_of_another_vocabulary_is_refused(token: int) -> None:
    embedding, _ = modules(**LAYOUTS["clusters"])
    with pytest.raises(IndexError, match="from 0 to 29"):
        embedding(torch.tensor([[3, token]]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cutoffs": (18, 10)}, "cutoffs must ascend"),
        ({"division": 20}, "at least 1 for each of the 3 clusters"),
        ({"tied_projections": (True,)}, "one entry for each of the 3 clusters"),
        ({"width": 9}, "width must be even"),
        ({"norm": "both"}, "'post' or 'pre'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(**{**LAYOUTS["clusters"], **fields})
