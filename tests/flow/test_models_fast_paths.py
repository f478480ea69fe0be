"""Inference-only fast paths give the numbers of the layers they stand for, and only where nothing else is wanted."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deq_flow.models import fast_paths
from deq_flow.models.fast_paths import FlowConv, InstanceNorm, channels_last, inference_only, joined, tanh_

LAYERS: dict[str, tuple[Callable[[], Callable[[Tensor], Tensor]], int]] = {
    "tanh": (lambda: lambda x: tanh_(x.clone()), 3),
    "residual": (lambda: lambda x: joined(x, x.flip(0)), 3),
    "flow head": (lambda: FlowConv(6).double(), 3),
    "instance norm": (lambda: InstanceNorm(6).double(), 1),
    "instance norm of a batch": (lambda: InstanceNorm(6).double(), 2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_fast_path_gives_the_values_of_its_layer_and_leaves_its_input(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    make, batch = LAYERS[name]
    layer, x = make(), channels_last(5 * torch.randn(batch, 6, 5, 7, dtype=torch.float64) + 2)
    copy = x.clone()
    with torch.no_grad():
        found = layer(x)
        monkeypatch.setattr(fast_paths, "inference_only", lambda _: False)
        torch.testing.assert_close(found, layer(x), rtol=1e-12, atol=1e-12)
    assert x.equal(copy)


@torch.no_grad()
def test_the_fast_tanh_is_within_rounding_in_single_precision() -> None:
    x = torch.linspace(-12, 12, 5001)
    torch.testing.assert_close(tanh_(x.clone()).double(), x.double().tanh(), rtol=0, atol=2e-7)


@torch.no_grad()
def test_autograd_autocast_half_precision_and_a_recorded_graph_take_the_layers_themselves() -> None:
    x = torch.zeros(1)
    assert inference_only(x)
    assert not inference_only(x.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not inference_only(x)
    with torch.enable_grad():
        assert not inference_only(x)

    class Recorded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + inference_only(x)

    assert torch.export.export(Recorded(), (x,)).module()(x) == 0
