"""Counts of what the delta rule computes and skips."""

import copy
import math

import pytest
import torch
from torch import nn

import deq_core as deq

LAYERS = [
    nn.Conv2d(4, 6, 3, padding=1),
    nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 0), dilation=(1, 2)),
    nn.Conv2d(4, 6, 3, padding="same", groups=2, bias=False),
    nn.Conv2d(4, 4, 1, groups=4),
    nn.Conv1d(4, 5, 3, stride=2, padding=1),
    nn.Conv1d(4, 6, 4, dilation=2, groups=2, bias=False),
    nn.Conv3d(4, 3, (1, 2, 3), padding=(0, 1, 1)),
    nn.Linear(7, 3),
]
SHAPES = {nn.Conv2d: (2, 4, 6, 7), nn.Conv1d: (2, 4, 9), nn.Conv3d: (2, 4, 3, 4, 5), nn.Linear: (2, 3, 7)}


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_sparse_macs_count_the_products_of_what_was_sent(layer, batched):
    """Against counting, for every element sent, the weights it meets: the layer applied to ones, with ones."""
    shape = SHAPES[type(layer)][0 if batched else 1 :]
    delta, meter = deq.delta.to_delta(layer, 0.5)
    generator = torch.Generator().manual_seed(0)
    first, change = torch.zeros(shape), torch.randn(shape, generator=generator)
    with torch.no_grad(), deq.solve_scope():
        delta(first)
        dense = meter.dense_macs
        delta(first + change)
    counting = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in counting.parameters():
            parameter.fill_(1.0 if parameter.dim() > 1 else 0.0)
        products = counting((change.abs() > 0.5).float()).sum().item()
        output = layer(first)
    assert meter.sparse_macs - dense == products
    kernel = math.prod(layer.weight.shape[1:])
    assert dense == output.numel() * kernel
    assert meter.dense_macs == 2 * dense
    assert meter.sparsity == pytest.approx(1 - (1 + (change.abs() > 0.5).float().mean().item()) / 2)


def test_an_empty_batch_counts_nothing():
    delta, meter = deq.delta.to_delta(nn.Conv2d(4, 4, 3, padding=1), 0.5)
    with torch.no_grad(), deq.solve_scope():
        for _ in range(2):
            delta(torch.zeros(0, 4, 5, 5))
    assert meter.dense_macs == meter.sparse_macs == meter.release_dense == meter.release_sparse == 0


def test_the_releases_count_leaves_the_kernel_area_out():
    layer = nn.Conv2d(4, 6, 3, padding=1)
    delta, meter = deq.delta.to_delta(layer, 0.5)
    first = torch.zeros(1, 4, 5, 5)
    first[:, :2] = 1.0
    second = first.clone()
    second[:, 0, 0] = 3.0
    with torch.no_grad(), deq.solve_scope():
        delta(first)
        delta(second)
    dense = 6 * 25 * 4 + 6 * 25
    assert meter.release_dense == 2 * dense
    assert meter.release_sparse == pytest.approx(dense * 0.5 + dense * 5 / 100 + 100)
    assert meter.pixel_sparsity == pytest.approx(1 - (25 + 5) / 50)


def test_tiles_are_active_where_any_of_their_pixels_is():
    layer = nn.Conv2d(3, 3, 3, padding=1)
    delta, meter = deq.delta.to_delta(layer, 0.5)
    first = torch.zeros(2, 3, 20, 17)
    change = torch.zeros_like(first)
    change[0, 1, 3, 3] = change[0, 0, 7, 7] = change[0, 2, 8, 0] = change[1, 0, 19, 16] = 1.0
    with torch.no_grad(), deq.solve_scope():
        delta(first)
        delta(first + change)
    tiles = 2 * 3 * 3
    assert meter.layers[""].tiles == 2 * tiles
    assert meter.tile_sparsity == pytest.approx(1 - (tiles + 3) / (2 * tiles))
    assert meter.pixel_sparsity == pytest.approx(1 - (680 + 4) / (2 * 680))
    assert torch.as_tensor(meter.layers[""].active_tiles).dtype == torch.long, "float32 counts to 2^24, a video further"
