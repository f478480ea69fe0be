"""Generated pairs are what their flow says, and a function of seed, kind and index."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deq_core.experiment.data.photographs import TRAINING, load_all
from deq_flow.data.mini.final_pass import FinalPassConfig
from deq_flow.data.mini.generated import Generated, GeneratedConfig, thinned, weakened
from deq_flow.data.mini.scenes import SceneConfig, random_scene

CONFIG = GeneratedConfig(height=48, width=64, scene=SceneConfig(objects=(2, 4)), rough_share=0.0)


@pytest.fixture(scope="module")
def photographs() -> tuple[np.ndarray, ...]:
    return load_all(TRAINING[:3])


def test_a_pair_depends_on_seed_kind_and_index_alone(photographs) -> None:
    first = Generated(CONFIG, photographs, kind=0, count=4)
    again = Generated(CONFIG, photographs, kind=0, count=9)
    _ = again[3]
    assert torch.equal(first[1].image1, again[1].image1)
    assert torch.equal(first[1].flow, again[1].flow)
    others = [
        first[2],
        Generated(CONFIG, photographs, kind=1, count=4)[1],
        Generated(replace(CONFIG, seed=1), photographs, kind=0, count=4)[1],
    ]
    for other in others:
        assert not torch.equal(first[1].image1, other.image1)


def test_a_pair_is_rendered_once(photographs) -> None:
    pairs = Generated(CONFIG, photographs, kind=0, count=2)
    assert pairs[0] is pairs[0]
    assert len(pairs) == 2
    with pytest.raises(IndexError, match="from 0 to 1, got 2"):
        pairs[2]


def test_the_flow_brings_the_second_frame_onto_the_first(photographs) -> None:
    pair = Generated(CONFIG, photographs, kind=0, count=1)[0]
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    target = torch.stack([(x + pair.flow[0]) / 63, (y + pair.flow[1]) / 47], dim=-1) * 2 - 1
    warped = torch.nn.functional.grid_sample(pair.image2[None].float(), target[None], align_corners=True)[0]
    assert pair.occluded is not None
    seen = ~pair.occluded
    still = (pair.image2.float() - pair.image1.float()).abs().mean(dim=0)[seen].mean()
    moved = (warped - pair.image1.float()).abs().mean(dim=0)[seen].mean()
    assert moved < 0.25 * still


def test_rough_pairs_have_the_flow_of_smooth_ones(photographs) -> None:
    smooth = Generated(CONFIG, photographs, kind=0, count=1)[0]
    rough = Generated(replace(CONFIG, rough_share=1.0), photographs, kind=0, count=1)[0]
    assert torch.equal(smooth.flow, rough.flow)
    assert not torch.equal(smooth.image1, rough.image1)


def test_thin_objects_are_several_times_as_long_as_wide(photographs) -> None:
    rng = np.random.default_rng(0)
    background, *objects = random_scene(rng, photographs, (48, 64), CONFIG.scene)
    assert thinned(rng, background, 1.0) is background
    angle = np.linspace(0, 2 * np.pi, 360)
    for layer in objects:
        assert thinned(rng, layer, 0.0) is layer
        outline = thinned(rng, layer, 1.0).outline
        assert outline is not None
        orders = np.arange(2, 6)[:, None]
        edge = 1 + (outline.amplitude[:, None] * np.cos(orders * angle + outline.phase[:, None])).sum(axis=0)
        assert edge.min() > 0, "the outline does not cross itself"
        assert edge.max() / edge.min() > 2


def test_effects_are_weakened_and_never_strengthened() -> None:
    full = FinalPassConfig()
    some = weakened(np.random.default_rng(0), full)
    assert some != weakened(np.random.default_rng(1), full)
    for name in ("shutter", "defocus", "fog", "exposure", "noise"):
        assert 0 <= getattr(some, name) < getattr(full, name)


@pytest.mark.parametrize("wrong", [{"height": 8}, {"seed": -1}, {"rough_share": 1.5}])
def test_numbers_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        GeneratedConfig(**wrong)


def test_in_still_pairs_nothing_moves_and_slow_ones_are_slower(photographs) -> None:
    still = Generated(replace(CONFIG, still_share=1.0), photographs, kind=0, count=2)
    assert all(torch.equal(pair.image1, pair.image2) for pair in (still[0], still[1]))
    assert all(pair.flow.abs().max() < 1e-5 for pair in (still[0], still[1]))  # what inverting the ripples leaves
    usual, slow = (
        Generated(replace(CONFIG, slow_share=share, slow=(0.05, 0.05)), photographs, kind=0, count=1)[0].flow
        for share in (0.0, 1.0)
    )
    assert 0.02 < float(slow.norm(dim=0).mean() / usual.norm(dim=0).mean()) < 0.1


def test_a_still_background_is_crossed_by_what_moves(photographs) -> None:
    pair = Generated(replace(CONFIG, still_background_share=1.0), photographs, kind=0, count=1)[0]
    moving = pair.flow.norm(dim=0) > 1e-5
    assert 0.05 < float(moving.float().mean()) < 0.95
    assert pair.occluded is not None
    seen = ~moving & ~pair.occluded & (torch.nn.functional.max_pool2d(moving[None].float(), 5, 1, 2)[0] == 0)
    assert torch.equal(pair.image1[:, seen], pair.image2[:, seen])


@pytest.mark.parametrize("choice", [{"slow": (0.0, 1.0)}, {"still_share": 0.6, "slow_share": 0.6}])
def test_paces_that_mean_nothing_are_refused(choice: dict) -> None:
    with pytest.raises(ValueError, match="slow"):
        replace(CONFIG, **choice)
