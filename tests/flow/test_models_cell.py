"""The update block: context computed once, attention, upsampling."""

import itertools
from dataclasses import replace
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import deq_core as deq
from deq_flow.config import Architecture
from deq_flow.models.attention import Aggregate, Attention
from deq_flow.models.cell import UpdateBlock
from deq_flow.models.upsample import bilinear_upsample, convex_upsample
from deq_flow.sizes import MINI, SMALL

SQUARE = replace(SMALL, hidden=6, context=4, correlation_widths=(8,), flow_widths=(6, 4), motion=7, head=5)
SEPARABLE = replace(MINI, hidden=6, context=4, correlation_widths=(8, 6), flow_widths=(6, 4), motion=7, head=5)
GLOBAL = replace(SEPARABLE, attention="global")


def inputs(size: Architecture) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(3)

    def normal(channels: int) -> Tensor:
        return torch.randn(2, channels, 5, 7, generator=generator, dtype=torch.float64)

    attention = torch.softmax(torch.randn(2, 35, 35, generator=generator, dtype=torch.float64), dim=2)
    return (
        torch.tanh(normal(size.hidden)),
        normal(size.context),
        normal(size.window),
        normal(2),
        attention if size.attention == "global" else None,
    )


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("size", [SQUARE, SEPARABLE, GLOBAL], ids=["square", "separable", "global"])
def test_binding_the_context_changes_neither_values_nor_gradients(size: Architecture, normed: bool) -> None:
    torch.manual_seed(0)
    block = UpdateBlock(size).double()
    if normed:
        deq.nn.weight_norm_(block)
    if size.attention == "global":
        torch.nn.init.constant_(block.gma.gamma, 0.7)
    results = []
    for bound in (False, True):
        hidden, context, correlation, flow, attention = inputs(size)
        context.requires_grad_()
        first = hidden.requires_grad_()
        if bound:
            step = block.bind(context, attention)
            hidden, change = step(hidden, correlation, flow)
            hidden, change = step(hidden, correlation, flow + change)
        else:
            hidden, change = block(hidden, context, correlation, flow, attention)
            hidden, change = block(hidden, context, correlation, flow + change, attention)
        total = hidden.square().sum() + change.square().sum()
        results.append((hidden, change, *torch.autograd.grad(total, (context, first, *block.parameters()))))
    for plain, bound in zip(*results, strict=True):
        torch.testing.assert_close(bound, plain, rtol=1e-9, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("size", [SQUARE, SEPARABLE, GLOBAL], ids=["square", "separable", "global"])
def test_inference_gives_the_same_values_and_writes_into_no_argument(size: Architecture) -> None:
    torch.manual_seed(0)
    block = UpdateBlock(size).double()
    hidden, context, correlation, flow, attention = inputs(size)
    copies = [part.clone() for part in (hidden, correlation, flow)]
    with torch.enable_grad():
        expected = block(hidden, context, correlation, flow, attention)
    step = block.bind(context, attention)
    for _ in range(2):
        for found, value in zip(step(hidden, correlation, flow), expected, strict=True):
            torch.testing.assert_close(found, value.detach(), rtol=1e-9, atol=1e-9)
    for part, copy in zip((hidden, correlation, flow), copies, strict=True):
        assert part.equal(copy)


def test_the_last_two_channels_of_motion_are_the_flow() -> None:
    block = UpdateBlock(SEPARABLE).double()
    _, _, correlation, flow, _ = inputs(SEPARABLE)
    motion = block.encoder(correlation, flow)
    assert motion.shape[1] == SEPARABLE.motion
    assert torch.equal(motion[:, -2:], flow)


def test_attention_rows_are_weights_and_aggregation_starts_as_the_identity() -> None:
    context, motion = torch.randn(2, 6, 4, 5), torch.randn(2, 8, 4, 5)
    attention = Attention(6)(context)
    assert attention.shape == (2, 20, 20)
    torch.testing.assert_close(attention.sum(2), torch.ones(2, 20))
    aggregate = Aggregate(8)
    assert torch.equal(aggregate(attention, motion), motion)
    torch.nn.init.constant_(aggregate.gamma, 1.0)
    torch.nn.init.eye_(aggregate.to_v.weight.data[:, :, 0, 0])
    looked_at = torch.einsum("bij,bcj->bci", attention, motion.flatten(2)).view_as(motion)
    torch.testing.assert_close(aggregate(attention, motion), motion + looked_at)


def by_distance(query: Tensor, attention: Attention) -> Tensor:
    """The definition: for every pair of positions, the query with the embeddings of rows and columns between them."""
    assert attention.pos_emb is not None
    size = attention.pos_emb.size
    batch, _, height, width = query.shape
    scores = query.new_empty(batch, height, width, height, width)
    for y, x, v, u in itertools.product(range(height), range(width), range(height), range(width)):
        rows, columns = (min(max(d, 1 - size), size - 1) + size - 1 for d in (v - y, u - x))
        embedded = attention.pos_emb.rel_height.weight[rows] + attention.pos_emb.rel_width.weight[columns]
        scores[:, y, x, v, u] = query[:, :, y, x] @ embedded
    return scores.view(batch, height * width, -1)


@pytest.mark.parametrize("by", ["position", "both"])
@pytest.mark.parametrize("size", [8, 3], ids=["in the table", "larger than the table"])
def test_attention_by_position_scores_how_far_away_another_is(by: Literal["position", "both"], size: int) -> None:
    torch.manual_seed(0)
    attention = Attention(6, by=by, positions=size).double()
    context = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    query, key = (6**-0.5 * part if i == 0 else part for i, part in enumerate(attention.to_qk(context).chunk(2, 1)))
    scores = by_distance(query, attention)
    if by == "both":
        scores = scores + query.flatten(2).mT @ key.flatten(2)
    torch.testing.assert_close(attention(context), torch.softmax(scores, dim=2))


def test_a_table_of_positions_that_content_does_not_use_is_kept_and_not_trained() -> None:
    torch.manual_seed(0)
    attention, context = Attention(6, positions=4), torch.randn(2, 6, 4, 5)
    names = [name for name, parameter in attention.named_parameters() if not parameter.requires_grad]
    assert names == ["pos_emb.rel_height.weight", "pos_emb.rel_width.weight"]
    plain = Attention(6)
    plain.to_qk = attention.to_qk
    assert torch.equal(attention(context), plain(context))


def test_attention_by_position_needs_a_table() -> None:
    with pytest.raises(ValueError, match=r"attention_by='both' needs attention_positions, .* got 0"):
        replace(GLOBAL, attention_by="both")


@pytest.mark.parametrize("scale", [4, 8])
def test_convex_upsampling_picks_the_neighbour_its_logits_name(scale: int) -> None:
    flow = torch.randn(2, 2, 5, 6)
    for neighbour in range(9):
        logits = torch.full((2, 9, scale**2, 5, 6), -1e4)
        logits[:, neighbour] = 1e4
        up = convex_upsample(flow, logits.flatten(1, 2), scale)
        dy, dx = neighbour // 3 - 1, neighbour % 3 - 1
        shifted = F.pad(flow, (1, 1, 1, 1))[:, :, 1 + dy : 6 + dy, 1 + dx : 7 + dx]
        torch.testing.assert_close(up, scale * shifted.repeat_interleave(scale, 2).repeat_interleave(scale, 3))


def test_convex_upsampling_reads_logits_row_by_row_within_a_cell() -> None:
    flow = torch.zeros(1, 2, 1, 1)
    flow[0, 0] = 1.0
    logits = torch.zeros(1, 9, 16, 1, 1)
    logits[:, 4] = 4 * torch.linspace(0, 8, 16).view(16, 1, 1)  # the larger, the less of the zero neighbours
    up = convex_upsample(flow, logits.flatten(1, 2), 4)[0, 0]
    assert (up.flatten().diff() > 0).all()


@pytest.mark.parametrize("scale", [4, 8])
def test_bilinear_upsampling_scales_a_constant_flow(scale: int) -> None:
    up = bilinear_upsample(torch.full((1, 2, 3, 4), 1.5), scale)
    torch.testing.assert_close(up, torch.full((1, 2, 3 * scale, 4 * scale), 1.5 * scale))
