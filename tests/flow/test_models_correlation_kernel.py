"""The correlation lookup by kernels in Triton: the volume's windows and gradients, on a GPU or else interpreted."""

import math

import pytest
import torch
from torch import Tensor

from deq_flow.models.lookup import correlation as module
from deq_flow.models.lookup.correlation import AllPairs, ByKernel, OnTheFly, correlation

pytest.importorskip("triton")


def windows_and_gradients(kind: type[AllPairs] | type[ByKernel], device: str, channels: int) -> list[Tensor]:
    """Windows at positions inside, at the border, outside and far away, then gradients of features and positions."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 2, channels, 5, 7, generator=generator)
    position = 1.6 * torch.rand(2, 2, 5, 7, generator=generator) * torch.tensor([7.0, 5.0]).view(1, 2, 1, 1) - 2
    position[0, :, 0, 0], position[1, 0, 1, 1] = 1e6, -1e9
    leaves = [leaf.to(device).requires_grad_() for leaf in (first, second, position)]
    maps = module._pyramid(leaves[1], 3)
    window = kind(leaves[0].flatten(2).mT / math.sqrt(channels), maps, 2)(leaves[2])
    weight = torch.linspace(-1, 1, window.numel(), device=device).view_as(window)
    return [window, *torch.autograd.grad((weight * window).sum(), leaves)]


def check(device: str, channels: int) -> None:
    stored, computed = (windows_and_gradients(kind, device, channels) for kind in (AllPairs, ByKernel))
    for one, other in zip(computed, stored, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [5, 40], ids=["less than a block", "blocks and a rest"])
def test_interpreted_kernels_give_the_windows_and_gradients_of_the_volume(channels: int) -> None:
    if torch.cuda.is_available():
        pytest.skip("kernels are compiled here, see the next test")
    check("cpu", channels)


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [5, 40, 256])
def test_compiled_kernels_give_the_windows_and_gradients_of_the_volume(channels: int) -> None:
    check("cuda", channels)


def test_a_cpu_is_served_by_tiles_whether_triton_is_there_or_not() -> None:
    first, second = torch.randn(2, 1, 4, 5, 7)
    assert isinstance(correlation(first, second, kind="on-the-fly"), OnTheFly)


@pytest.mark.gpu
def test_a_gpu_is_served_by_the_kernels_unless_sums_must_have_an_order() -> None:
    first, second = torch.randn(2, 1, 4, 5, 7, device="cuda")
    assert isinstance(correlation(first, second, kind="on-the-fly"), ByKernel)
    torch.use_deterministic_algorithms(True)
    try:
        assert isinstance(correlation(first, second, kind="on-the-fly"), OnTheFly)
    finally:
        torch.use_deterministic_algorithms(False)
