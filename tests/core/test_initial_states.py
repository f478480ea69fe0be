"""Initial states from elsewhere."""

import pytest
import torch

import deq_core as deq

OTHER, MOVED, RANDOM = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def states(batch=400):
    """Two parts in a dictionary, from which each sample can be told."""
    number = torch.arange(batch, dtype=torch.float32)
    return {
        "h": number[:, None].expand(-1, 3).clone().requires_grad_(),
        "c": -number[:, None, None].expand(-1, 2, 2).half(),
    }


def mixed(z, share=1.0, seed=0, **options):
    return deq.nn.mix_initial_states(z, share, generator=seeded(seed), **options)


def test_a_share_of_the_samples_is_touched_and_the_others_keep_their_bits():
    z = states()
    move = lambda z, generator: {name: leaf + 1000 for name, leaf in z.items()}  # noqa: E731
    new, touched = mixed(z, 0.3, move=move)
    assert touched.sum() == pytest.approx(120, abs=30)
    for name, leaf in z.items():
        assert torch.equal(new[name][~touched], leaf[~touched])
        assert (new[name][touched] != leaf[touched]).any(-1).all()
        assert new[name].dtype == leaf.dtype
        assert not new[name].requires_grad
    again, same = mixed(z, 0.3, move=move)
    assert torch.equal(same, touched)
    assert all(torch.equal(new[name], again[name]) for name in z)
    assert not torch.equal(mixed(z, 0.3, seed=1)[1], touched)
    assert not mixed(z, 0.0)[1].any()


def test_another_samples_state_is_that_of_one_other_sample():
    z = states()
    new, touched = mixed(z, odds=OTHER)
    assert touched.all()
    taken = new["h"][:, 0]
    assert (taken != z["h"][:, 0]).all()
    assert torch.equal(new["c"], -taken[:, None, None].expand(-1, 2, 2).half())
    assert len(taken.unique()) > 200


def test_odds_are_those_of_the_three_kinds_from_untouched_states():
    z = states(2000)
    h, _ = mixed(
        z["h"],
        odds=(2.0, 1.0, 1.0),
        move=lambda z, _: 10_000 + z,
        draw=lambda z, _: torch.full_like(z, -1.0),
    )
    moved, random = h[:, 0] >= 10_000, h[:, 0] == -1
    assert torch.equal(h[moved], 10_000 + z["h"][moved])
    assert moved.double().mean() == pytest.approx(0.25, abs=0.04)
    assert random.double().mean() == pytest.approx(0.25, abs=0.04)


def test_what_is_not_to_be_had_is_left_out():
    one = torch.ones(1, 3)
    assert not mixed(one, odds=OTHER)[1].any()
    assert not mixed(one, odds=MOVED)[1].any()
    assert torch.equal(mixed(one, odds=(1.0, 1.0, 0.0), move=lambda z, _: 2 * z)[0], 2 * one)


def test_random_states_have_the_root_mean_square_of_the_batch():
    h, _ = mixed((torch.full((50, 40), 3.0), torch.zeros(50, 4)), odds=RANDOM)[0]
    assert h.square().mean().sqrt() == pytest.approx(3.0, rel=0.1)
    assert abs(h.mean()) < 0.3


def test_maps_are_rolled_alike_in_all_parts_and_scaled_and_disturbed_by_part():
    generator = seeded(1)
    maps = torch.randn(6, 3, 8, 12, generator=generator)
    coarse, scaled = deq.nn.MoveMaps(shift=0.3, scale=(0.0, 0.4))((maps, 2 * maps), generator)
    shifts = []
    for sample, rolled, larger in zip(maps, coarse, scaled, strict=True):
        found = [
            (dy, dx) for dy in range(-4, 5) for dx in range(-6, 7) if torch.equal(sample.roll((dy, dx), (1, 2)), rolled)
        ]
        assert len(found) == 1
        shifts += found
        factor = (larger / (2 * rolled)).flatten()
        torch.testing.assert_close(factor, factor[0].expand_as(factor))
        assert 0.6 <= factor[0] <= 1.4
    assert len(set(shifts)) > 3
    assert all(abs(dy) <= 2 and abs(dx) <= 4 for dy, dx in shifts)


def test_noise_is_smooth_and_as_large_as_asked():
    zeros = torch.zeros(200, 2, 24, 32)
    noise = deq.nn.MoveMaps(noise=(2.0,))(zeros, seeded())
    assert noise.flatten(1).std(1).max() < 2 * 2.5
    assert 0.3 < noise.std() < 1.2  # uniform deviations up to 2, less what interpolation takes
    assert (noise.diff(dim=-1).std() / noise.std()) < 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: mixed(z, 1.5), "share must be in"),
        (lambda z: mixed(z, odds=(1.0, -1.0, 0.0)), "odds must be three numbers"),
        (lambda z: mixed(z, odds=MOVED, move=lambda z, _: z["h"]), "move must return"),
        (lambda z: mixed(z, odds=RANDOM, draw=lambda z, _: {**z, "h": z["c"]}), "draw must return"),
        (lambda z: deq.nn.MoveMaps()(z), r"state\['h'\] has shape \(400, 3\)"),
        (lambda z: deq.nn.MoveMaps(scale=(0.1, 0.1))(z["c"]), "scale must be one number"),
        (lambda z: deq.nn.MoveMaps(noise=(-1.0,)), "noise must be at least 0"),
        (lambda z: deq.nn.MoveMaps(grid=(1, 4)), "grid must be at least 2"),
    ],
)
def test_impossible_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(states())
