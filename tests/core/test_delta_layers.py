"""Which layers the delta rule takes, and how they may be called."""

import pytest
import torch
from torch import nn

import deq_core as deq

LAYERS = {
    "linear": (nn.Linear(5, 3), (2, 3, 4, 5)),
    "linear, one vector": (nn.Linear(5, 3), (5,)),
    "in one dimension": (nn.Conv1d(4, 6, 3, padding=2, dilation=2, groups=2), (2, 4, 9)),
    "in one dimension, unbatched": (nn.Conv1d(4, 4, 3, stride=2), (4, 9)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding="same", groups=4), (2, 4, 5, 6)),
    "unbatched": (nn.Conv2d(4, 5, 3, stride=2, padding=1), (4, 4, 5)),
    "in three dimensions": (nn.Conv3d(2, 3, 2), (1, 2, 3, 4, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("reference", ["seen", "sent"])
def test_layers_of_every_kind_and_rank_are_exact_at_threshold_zero(name, reference):
    layer, shape = LAYERS[name]
    layer = layer.double()
    delta, meter = deq.delta.to_delta(layer, 0.0, reference=reference)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), deq.solve_scope():
        for _ in range(4):
            x = torch.randn(shape, generator=generator, dtype=torch.float64)
            torch.testing.assert_close(delta(x), layer(x), rtol=0, atol=1e-14)
    assert meter.sparse_macs <= meter.dense_macs


@pytest.mark.parametrize("layer", [nn.Linear(4, 4), nn.Conv2d(4, 4, 1)])
def test_what_does_not_change_stays_under_autocast(layer):
    delta, _ = deq.delta.to_delta(layer, 0.0)
    nn.init.constant_(layer.bias, 1 / 3)  # no number of bfloat16
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), deq.solve_scope():
        _, first, *later = [delta(torch.ones(1, 4, 1, 4)) for _ in range(5)]
    assert all(torch.equal(y, first) for y in later)


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, z, x):
        return torch.tanh(self.head(self.encode(z))) + x


def test_a_layer_called_on_its_own_within_a_solve_is_refused():
    delta, _ = deq.delta.to_delta(Cell(), 0.0)
    x = torch.ones(2, 3)
    with torch.no_grad():
        delta.encode(x)  # outside of a solve it is dense
        with deq.solve_scope():
            delta(x, x)
            with pytest.raises(ValueError, match=r"layer 'encode.0' was called on its own"):
                delta.encode(x)
            with pytest.raises(RuntimeError, match="size of tensor"):
                delta(x, x[:, :2])
            with pytest.raises(ValueError, match="was called on its own"):
                delta.encode(x)
