"""Shorter ways to the values of layers."""

import pytest
import torch
from torch import nn

from deq_flow.models.fast_paths import channels_last, few_channels, free, more_channels, normalised, tanh_


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 5)])
def test_few_channels_are_those_of_the_convolution(kernel: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    padding = (kernel[0] // 2, kernel[1] // 2)
    convolution = nn.Conv2d(6, 2, kernel, padding=padding, bias=bias).double()
    x = channels_last(torch.randn(3, 6, 5, 7, dtype=torch.float64))
    torch.testing.assert_close(few_channels(x, convolution), convolution(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_more_channels_are_zeros_behind_those_of_the_convolution(bias: bool) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 5, 3, padding=1, bias=bias).double()
    x = channels_last(torch.randn(3, 6, 5, 7, dtype=torch.float64))
    own, more = more_channels(x, convolution, 2).tensor_split((5,), dim=1)
    torch.testing.assert_close(own, convolution(x), rtol=1e-12, atol=1e-12)
    assert more.shape == (3, 2, 5, 7)
    assert not more.any()


@pytest.mark.parametrize("affine", [True, False])
def test_running_statistics_may_be_part_of_the_weights(affine: bool) -> None:
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 4, 3, stride=2, padding=1).double(), nn.BatchNorm2d(4, affine=affine).double()
    for _ in range(3):
        norm(convolution(torch.randn(2, 3, 8, 9, dtype=torch.float64)) + 2)
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2.0)
        nn.init.uniform_(norm.bias)
    norm.eval()
    x = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    called = []
    norm.register_forward_hook(lambda *_: called.append(1))
    with torch.no_grad():
        merged = normalised(x, convolution, norm)
        assert not called
        torch.testing.assert_close(merged, norm(convolution(x)), rtol=1e-12, atol=1e-12)
    assert normalised(x, convolution, norm).equal(norm(convolution(x)))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
def test_instance_normalisation_is_that_of_the_module(batch: int, affine: bool) -> None:
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 4, 3, padding=1).double(), nn.InstanceNorm2d(4, affine=affine).double()
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2.0)
    x = channels_last(torch.randn(batch, 3, 8, 9, dtype=torch.float64) + 2)
    called = []
    norm.register_forward_hook(lambda *_: called.append(1))
    with torch.no_grad():
        short = normalised(x, convolution, norm)
        assert bool(called) == (batch > 1 or affine)
        torch.testing.assert_close(short, norm(convolution(x)), rtol=1e-12, atol=1e-12)
    assert normalised(x, convolution, norm).equal(norm(convolution(x)))


@torch.no_grad()
def test_autocast_keeps_channels_last_through_instance_normalisation() -> None:
    convolution, norm = nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4)
    x = channels_last(torch.randn(1, 3, 8, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = normalised(x, convolution, norm)
        torch.testing.assert_close(found, norm(convolution(x)), rtol=0.02, atol=0.02)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_gathering_statistics_is_left_to_the_norm() -> None:
    convolution, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    with torch.no_grad():
        normalised(torch.randn(2, 3, 8, 9) + 5, convolution, norm)
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("grad", [True, False])
def test_tanh_is_within_rounding(grad: bool) -> None:
    x = torch.linspace(-12, 12, 5001)
    with torch.set_grad_enabled(grad):
        found = tanh_(x.clone())
    torch.testing.assert_close(found.double(), x.double().tanh(), rtol=0, atol=2e-7)
    assert found.equal(x.tanh()) is grad


@torch.no_grad()
def test_autocast_and_half_precision_and_autograd_keep_the_modules_operations() -> None:
    x = torch.zeros(1)
    assert free(x)
    assert not free(x.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not free(x)
    with torch.enable_grad():
        assert not free(x)
