"""The correlation lookup: what it reads, where it is zero, and that both ways of computing it agree."""

import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deq_flow.models.lookup import correlation as module
from deq_flow.models.lookup import on_the_fly
from deq_flow.models.lookup.correlation import AllPairs, OnTheFly, correlation

Kind = Literal["all-pairs", "on-the-fly"]
KINDS: list[Kind] = ["all-pairs", "on-the-fly"]


def features(height: int = 7, width: int = 9, channels: int = 5, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, batch, channels, height, width, generator=generator, dtype=torch.float64)
    return first, second


def targets(height: int = 7, width: int = 9, batch: int = 2) -> Tensor:
    """Positions inside the map, outside it, and far outside."""
    generator = torch.Generator().manual_seed(1)
    spread = torch.rand(batch, 2, height, width, generator=generator, dtype=torch.float64)
    position = 1.5 * spread * torch.tensor([width, height]).view(1, 2, 1, 1) - 3
    position[0, :, 0, 0] = 1e6
    return position


def by_grid_sample(first: Tensor, second: Tensor, position: Tensor, levels: int, radius: int) -> Tensor:
    """The definition: pool the volume, sample it bilinearly with zeros outside, the x offset varying slowest."""
    batch, channels, height, width = first.shape
    volume = torch.einsum("bchw,bcij->bhwij", first, second) / math.sqrt(channels)
    volume = volume.flatten(0, 2)[:, None]
    offset = torch.arange(-radius, radius + 1, dtype=first.dtype)
    out = []
    for level in range(levels):
        rows, columns = volume.shape[2:]
        x, y = (position / 2**level).permute(1, 0, 2, 3).reshape(2, -1, 1, 1)
        x, y = torch.broadcast_tensors(x + offset[:, None], y + offset[None, :])
        grid = torch.stack([2 * x / (columns - 1) - 1, 2 * y / (rows - 1) - 1], dim=-1)
        window = F.grid_sample(volume, grid, align_corners=True)
        out.append(window.reshape(batch, height, width, -1).permute(0, 3, 1, 2))
        volume = F.avg_pool2d(volume, 2)
    return torch.cat(out, dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_bilinear_samples_of_the_pooled_volume(kind: Kind) -> None:
    first, second = features()
    ours = correlation(first, second, levels=2, radius=2, kind=kind)(targets())
    torch.testing.assert_close(ours, by_grid_sample(first, second, targets(), levels=2, radius=2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_x_offset_is_the_slow_index_of_a_window(kind: Kind) -> None:
    first, second = features()
    radius, side = 2, 5
    lookup = correlation(first, second, levels=1, radius=radius, kind=kind)
    centre = torch.full((2, 2, 7, 9), 3.0, dtype=torch.float64)
    window = lookup(centre)
    for a, b in [(0, 0), (4, 1), (1, 4)]:
        x, y = 3 + a - radius, 3 + b - radius
        expected = (first * second[:, :, y, x][:, :, None, None]).sum(1) / math.sqrt(5)
        torch.testing.assert_close(window[:, a * side + b], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(2, 2), (2, 5), (3, 16)])
def test_a_map_too_small_for_every_level_gives_finite_windows(kind: Kind, size: tuple[int, int]) -> None:
    first, second = features(*size)
    position = targets(*size)
    window = correlation(first, second, levels=4, radius=3, kind=kind)(position)
    assert window.shape == (2, 4 * 49, *size)
    assert window.isfinite().all()
    assert window[1].abs().amax() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_seen_from_far_outside(kind: Kind) -> None:
    first, second = features()
    lookup = correlation(first, second, levels=2, radius=2, kind=kind)
    for place in (-1e9, -20.0, 30.0, 1e9, math.inf):
        window = lookup(torch.full((2, 2, 7, 9), place, dtype=torch.float64))
        assert (window[torch.isfinite(window)] == 0).all()
        assert math.isinf(place) or window.isfinite().all()


@pytest.mark.parametrize(("kind", "gather"), [("all-pairs", 1), ("on-the-fly", 0), ("on-the-fly", 1000)])
def test_gradients_reach_features_and_positions(monkeypatch: pytest.MonkeyPatch, kind: Kind, gather: int) -> None:
    monkeypatch.setattr(on_the_fly, "GATHER", gather)
    monkeypatch.setitem(on_the_fly.TILE, "cpu", 2)
    first, second = (x[:1, :2, :3, :4].clone().requires_grad_() for x in features())
    position = (targets()[:1, :, :3, :4] * 0.5 + 0.123).requires_grad_()

    def windows(*arguments: Tensor) -> Tensor:
        return correlation(arguments[0], arguments[1], levels=2, radius=1, kind=kind)(arguments[2])

    assert torch.autograd.gradcheck(windows, (first, second, position))
    assert torch.autograd.gradgradcheck(windows, (first, second, position), fast_mode=True)


@pytest.mark.parametrize("gather", [0.0, 0.8, 1000], ids=["gathered", "mixed", "multiplied"])
@pytest.mark.parametrize("tile", [1, 2, 4, 64])
def test_windows_computed_when_read_are_those_of_the_volume(
    monkeypatch: pytest.MonkeyPatch, gather: float, tile: int
) -> None:
    monkeypatch.setitem(on_the_fly.TILE, "cpu", tile)
    monkeypatch.setattr(on_the_fly, "GATHER", gather)
    gradients = []
    for kind in KINDS:
        first, second = (x.requires_grad_() for x in features())
        position = targets().requires_grad_()
        window = correlation(first, second, levels=3, radius=2, kind=kind)(position)
        weights = torch.linspace(0, 1, window.numel(), dtype=window.dtype).view_as(window)
        gradients.append((window, *torch.autograd.grad((weights * window).sum(), (first, second, position))))
    for stored, computed in zip(*gradients, strict=True):
        torch.testing.assert_close(computed, stored)


def test_both_ways_agree_in_single_precision_at_the_size_of_sintel_quartered() -> None:
    generator = torch.Generator().manual_seed(2)
    first, second = torch.randn(2, 1, 64, 28, 64, generator=generator)
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(64.0), indexing="ij")
    position = torch.stack([x, y])[None] + 3 * torch.randn(1, 2, 28, 64, generator=generator)
    results = []
    for kind in KINDS:
        leaves = [leaf.clone().requires_grad_() for leaf in (first, second, position)]
        window = correlation(leaves[0], leaves[1], kind=kind)(leaves[2])
        results.append((window, *torch.autograd.grad(window.square().mean(), leaves)))
    for stored, computed in zip(*results, strict=True):
        torch.testing.assert_close(computed, stored, rtol=1e-4, atol=1e-4 * float(stored.detach().abs().max()))


@pytest.mark.gpu
def test_both_ways_agree_on_a_gpu() -> None:
    results = []
    for kind in KINDS:
        leaves = [leaf.float().cuda().requires_grad_() for leaf in (*features(40, 70), targets(40, 70))]
        window = correlation(leaves[0], leaves[1], kind=kind)(leaves[2])
        results.append((window, *torch.autograd.grad(window.square().mean(), leaves)))
    for stored, computed in zip(*results, strict=True):
        torch.testing.assert_close(computed, stored, rtol=1e-4, atol=1e-4)


def test_a_tile_is_multiplied_with_what_it_sees_alone() -> None:
    # Flow is the identity: a tile of 8 x 8 with radius 4 sees at most 17 x 17 cells and the zeros around them.
    second = features(40, 48, batch=1)[1]
    y, x = torch.meshgrid(torch.arange(40), torch.arange(48), indexing="ij")
    columns, rows = (place.reshape(-1, 1) + torch.arange(-4, 6) for place in (x, y))
    columns = torch.where((columns < 0) | (columns >= 48), 48, columns)
    rows = torch.where((rows < 0) | (rows >= 40), 40, rows)
    window = on_the_fly.Window(columns, rows, (40, 48), (40, 48), level=0)
    target = F.pad(second, (0, 1, 0, 1))[0].permute(1, 2, 0)
    tiles = list(on_the_fly._tiles(window, target))
    assert len(tiles) == 5 * 6
    assert max(len(tile.part(target)) for tile in tiles) == 18 * 18
    assert not any(tile.gathered for tile in tiles)


def test_memory_of_windows_computed_when_read_does_not_grow_with_the_square_of_the_pixels() -> None:
    def saved(height: int, width: int) -> int:
        first, second = (x.requires_grad_() for x in features(height, width))
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            window = correlation(first, second, levels=2, radius=1, kind="on-the-fly")(targets(height, width))
        assert window.requires_grad
        return sum(sizes.values())

    assert saved(32, 32) < 4.5 * saved(16, 16)


def test_the_volume_is_stored_only_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = features()
    entries = 2 * 63 * (7 * 9 + 3 * 4)
    monkeypatch.setattr(module, "VOLUME_LIMIT", entries)
    assert isinstance(correlation(first, second, levels=2), AllPairs)
    monkeypatch.setattr(module, "VOLUME_LIMIT", entries - 1)
    assert isinstance(correlation(first, second, levels=2), OnTheFly)


def test_positions_that_are_no_numbers_harm_no_other_cell() -> None:
    first, second = (x.float() for x in features())
    position = targets().float()
    expected = correlation(first, second, levels=2, radius=2)(position)
    for value in (math.nan, math.inf, -math.inf, 1e30):
        position[:, :, 3, 4] = value
        found = correlation(first, second, levels=2, radius=2)(position)
        found[:, :, 3, 4] = expected[:, :, 3, 4]
        torch.testing.assert_close(found, expected)


def test_correlation_stays_in_single_precision_under_autocast() -> None:
    first, second = (x.bfloat16() for x in features())
    exact = correlation(first.float(), second.float(), levels=2, radius=2)(targets().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        window = correlation(first, second, levels=2, radius=2)(targets().float())
    assert window.dtype == torch.float32
    torch.testing.assert_close(window, exact, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_cosine_similarity_is_highest_at_the_match_and_blind_to_length_and_offset(kind: Kind) -> None:
    first, _ = features(channels=32)
    scaled = 3 * first + torch.arange(32, dtype=torch.float64).view(1, 32, 1, 1)
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(9.0), indexing="ij")
    here = torch.stack([x, y])[None].double().expand(2, -1, -1, -1)
    window = correlation(first, scaled, levels=1, radius=1, similarity="cosine", kind=kind)(here)
    assert (window.argmax(dim=1) == 4).all()  # the centre of 3 x 3
    torch.testing.assert_close(window[:, 4], torch.full_like(window[:, 4], module.COSINE_SCALE))
