"""Augmentation: the release's geometry bit for bit, and the laws that keep frames and flow together."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.flow.parity import normal, smooth

from deq_flow.data import augment as aug
from deq_flow.data.augment import AugmentConfig, Geometry, augment, transform
from deq_flow.data.colour import ColourConfig
from deq_flow.data.samples import FlowSample

GOLDEN = Path(__file__).parents[1] / "golden"
NO_COLOUR = ColourConfig(brightness=0, contrast=0, saturation=0, hue=0)
STILL = AugmentConfig(crop=(64, 80), colour=NO_COLOUR, eraser_chance=0.0)


def recorded_sample(sparse: bool) -> FlowSample:
    """The input of the recordings, (120, 150)."""
    first, second = (
        (127 + 60 * smooth(normal(f"flow/aug/{n}", (1, 3, 120, 150)))).clamp(0, 255).byte()[0] for n in (1, 2)
    )
    flow = 5 * smooth(normal("flow/aug/f", (1, 2, 120, 150)))[0]
    known = normal("flow/aug/v", (120, 150)) > 0.5
    return FlowSample(first, second, flow, known if sparse else torch.ones_like(known), "recorded")


def released_draws(seed: int, *, sparse: bool) -> tuple[list[tuple[int, int, int, int]], Geometry]:
    """Patches and geometry as the release draws them, in its order, from NumPy's old generator of that seed."""
    rng = np.random.RandomState(seed)
    h, w = 120, 150
    if not sparse:
        rng.rand()  # whether colours change independently
    patches = []
    if rng.rand() < 0.5:
        for _ in range(rng.randint(1, 3)):
            x, y = rng.randint(0, w), rng.randint(0, h)
            patches.append((x, y, rng.randint(50, 100), rng.randint(50, 100)))
    margin = 1 if sparse else 8
    least = max((64 + margin) / h, (80 + margin) / w)
    fx = fy = 2 ** rng.uniform(-0.2, 0.5 if sparse else 0.6)
    if not sparse and rng.rand() < 0.8:
        fx *= 2 ** rng.uniform(-0.2, 0.2)
        fy *= 2 ** rng.uniform(-0.2, 0.2)
    fx, fy = max(fx, least), max(fy, least)
    scaled = rng.rand() < 0.8
    if scaled:
        h, w = round(h * fy), round(w * fx)
    flip = (rng.rand() < 0.5, not sparse and rng.rand() < 0.1)
    if sparse:
        y = min(max(rng.randint(0, h - 64 + 20), 0), h - 64)
        x = min(max(rng.randint(-50, w - 80 + 50), 0), w - 80)
    else:
        y, x = rng.randint(0, h - 64), rng.randint(0, w - 80)
    return patches, Geometry((fx, fy) if scaled else None, flip, (y, x))


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("seed", range(4))
def test_erased_scaled_mirrored_and_cropped_as_in_the_release(sparse: bool, seed: int) -> None:
    sample = recorded_sample(sparse)
    patches, geometry = released_draws(seed, sparse=sparse)
    second = aug.pixels(sample.image2)
    second = aug.paint(second, second.reshape(-1, 3).mean(axis=0).astype(np.uint8), patches)
    config = replace(STILL, sparse=sparse, released_scatter=sparse)
    result = transform(replace(sample, image2=aug.planes(second)), geometry, config)
    name = f"{'sparse' if sparse else 'dense'}{seed}"
    with np.load(GOLDEN / "flow_io.npz") as recorded:  # rows 1, 5, 9, ..., columns 2, 6, 10, ...
        np.testing.assert_array_equal(aug.pixels(result.image1)[1::4, 2::4], recorded[f"{name}_img1"])
        np.testing.assert_array_equal(aug.pixels(result.image2)[1::4, 2::4], recorded[f"{name}_img2"])
        np.testing.assert_array_equal(result.flow.permute(1, 2, 0).numpy()[1::4, 2::4], recorded[f"{name}_flow"])
        if sparse:
            np.testing.assert_array_equal(result.valid.numpy()[1::4, 2::4], recorded[f"{name}_valid"] > 0)


def matched_pair(h: int = 120, w: int = 150) -> FlowSample:
    """A smooth picture and the same moved by an affine flow, known exactly: pixel p goes to p + flow(p)."""
    noise = np.random.default_rng(0).normal(0, 1, (h + 60, w + 60, 3))
    picture = cv2.GaussianBlur(noise, (0, 0), 9)
    picture = (127 + 100 * picture / np.abs(picture).max()).astype(np.float32)
    y, x = np.indices((h, w), dtype=np.float64)
    matrix, offset = np.array([[1.02, 0.01], [-0.015, 0.98]]), np.array([3.0, -2.0])
    flow = np.stack([matrix[0, 0] * x + matrix[0, 1] * y, matrix[1, 0] * x + matrix[1, 1] * y]) - np.stack([x, y])
    flow += offset[:, None, None]
    inverse = np.linalg.inv(matrix)
    sx = inverse[0, 0] * (x - offset[0]) + inverse[0, 1] * (y - offset[1])
    sy = inverse[1, 0] * (x - offset[0]) + inverse[1, 1] * (y - offset[1])
    second = cv2.remap(picture, (sx + 30).astype(np.float32), (sy + 30).astype(np.float32), cv2.INTER_CUBIC)
    image1, image2 = (
        aug.planes(np.rint(frame).astype(np.uint8)) for frame in (picture[30 : 30 + h, 30 : 30 + w], second)
    )
    return FlowSample(
        image1, image2, torch.from_numpy(flow.astype(np.float32)), torch.ones(h, w, dtype=torch.bool), "matched"
    )


def mismatch(sample: FlowSample) -> np.ndarray:
    """Grey levels between image 1 and image 2 looked up along the flow, at valid pixels that stay in the frame."""
    h, w = sample.valid.shape
    y, x = np.indices((h, w), dtype=np.float32)
    u, v = sample.flow.numpy()
    warped = cv2.remap(aug.pixels(sample.image2), x + u, y + v, cv2.INTER_LINEAR).astype(float)
    inside = (x + u >= 0) & (x + u <= w - 1) & (y + v >= 0) & (y + v <= h - 1) & sample.valid.numpy()
    return np.abs(warped - aug.pixels(sample.image1)).mean(axis=2)[inside]


@pytest.mark.parametrize("seed", range(12))
def test_flow_still_matches_the_frames(seed: int) -> None:
    config = replace(STILL, scale=(-0.3, 0.6), flip_chance=(0.5, 0.5))
    result = augment(matched_pair(), config, np.random.default_rng(seed))
    assert result.valid.all()
    assert mismatch(result).mean() < 1.0
    off = replace(result, flow=result.flow + 2)
    assert mismatch(off).mean() > 3 * mismatch(result).mean()


@pytest.mark.parametrize("seed", range(8))
def test_sparse_flow_still_matches_the_frames(seed: int) -> None:
    sample = matched_pair()
    known = torch.from_numpy(np.random.default_rng(100 + seed).uniform(size=(120, 150)) < 0.3)
    config = replace(STILL, scale=(-0.3, 0.6), sparse=True, flip_chance=(0.5, 0.5))
    result = augment(replace(sample, valid=known), config, np.random.default_rng(seed))
    assert 0.05 < result.valid.float().mean() < 0.6
    assert (result.flow[:, ~result.valid] == 0).all()
    assert mismatch(result).mean() < 1.0


@pytest.mark.parametrize("scale", [(1.5, 1.25), (1.3, 1.37), (0.73, 0.81)])
def test_sparse_vectors_land_where_the_frames_do(scale: tuple[float, float]) -> None:
    """With its own place as each pixel's flow, scattering and interpolation differ by rounding, which averages out."""
    y, x = np.indices((120, 150), dtype=np.float32)
    places, valid = np.stack([x, y], axis=2), np.ones((120, 150), dtype=bool)
    dense, _ = aug.resize_flow(places, valid, scale)
    moved, known = aug.scatter_flow(places, valid, scale, released=False)
    known[:3] = known[-3:] = known[:, :3] = known[:, -3:] = False  # there, interpolation holds the flow constant
    difference = (moved - dense)[known]
    assert np.abs(difference).max() <= 0.5 + 1e-3
    assert np.abs(difference.mean(axis=0)).max() < 0.01


def test_of_vectors_that_meet_the_nearest_stays() -> None:
    flow = np.zeros((1, 3, 2), np.float32)
    flow[0, :, 0] = [1, 2, 3]  # at 0.4 of the width, their places are -0.3, 0.1 and 0.5: all go to pixel 0
    moved, known = aug.scatter_flow(flow, np.ones((1, 3), dtype=bool), (0.4, 1.0), released=False)
    assert known.tolist() == [[True]]
    np.testing.assert_allclose(moved[0, 0], [0.8, 0.0])


def test_the_first_row_and_column_survive_unless_the_release_is_asked_for() -> None:
    flow, valid = np.ones((10, 12, 2), np.float32), np.ones((10, 12), dtype=bool)
    _, known = aug.scatter_flow(flow, valid, (1.0, 1.0), released=False)
    assert known.all()
    _, known = aug.scatter_flow(flow, valid, (1.0, 1.0), released=True)
    assert not known[0].any()
    assert not known[:, 0].any()
    assert known[1:, 1:].all()


def test_unknown_flow_never_leaks_into_valid_pixels() -> None:
    sample = matched_pair()
    flow = sample.flow.clone()
    valid = sample.valid.clone()
    valid[30:60, 40:90] = False
    flow[:, ~valid] = torch.nan
    clean = augment(sample, STILL, np.random.default_rng(5))
    result = augment(replace(sample, flow=flow, valid=valid), STILL, np.random.default_rng(5))
    assert 0 < int((~result.valid).sum()) < result.valid.numel() / 2
    torch.testing.assert_close(result.flow[:, result.valid], clean.flow[:, result.valid])


def test_mirroring_turns_the_flow() -> None:
    sample = matched_pair()
    config = replace(STILL, crop=(120, 150))
    mirrored = transform(sample, Geometry(None, (True, False), (0, 0)), config)
    assert torch.equal(mirrored.flow[0], -sample.flow[0].flip(1))
    assert torch.equal(mirrored.flow[1], sample.flow[1].flip(1))
    both = transform(sample, Geometry(None, (True, True), (0, 0)), config)
    assert torch.equal(both.flow, -sample.flow.flip(1, 2))
    assert torch.equal(both.image2, sample.image2.flip(1, 2))


def test_the_same_generator_gives_the_same_sample_and_another_gives_another() -> None:
    sample = matched_pair()
    config = AugmentConfig(crop=(64, 80), eraser_size=(10, 30))
    first, again, other = (augment(sample, config, np.random.default_rng(seed)) for seed in (7, 7, 8))
    for field in ("image1", "image2", "flow", "valid"):
        assert torch.equal(getattr(first, field), getattr(again, field))
    assert not torch.equal(first.image1, other.image1)


def test_augmentation_leaves_its_argument_alone() -> None:
    sample = matched_pair()
    copies = [tensor.clone() for tensor in (sample.image1, sample.image2, sample.flow, sample.valid)]
    for seed in range(6):
        augment(
            sample, AugmentConfig(crop=(64, 80), eraser_chance=1.0, eraser_size=(10, 30)), np.random.default_rng(seed)
        )
    now = (sample.image1, sample.image2, sample.flow, sample.valid)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(now, copies, strict=True))


def test_a_crop_of_the_whole_sample_is_possible() -> None:
    config = replace(STILL, crop=(120, 150), scale_chance=0.0, flip_chance=(0.0, 0.0))
    sample = matched_pair()
    result = augment(sample, config, np.random.default_rng(0))
    assert torch.equal(result.image1, sample.image1)
    assert torch.equal(result.flow, sample.flow)


def test_a_sample_smaller_than_the_crop_is_enlarged() -> None:
    config = replace(STILL, crop=(140, 160), scale_chance=0.0)
    assert augment(matched_pair(), config, np.random.default_rng(0)).valid.shape == (140, 160)


def test_a_crop_that_does_not_fit_is_an_error_that_names_the_sample() -> None:
    with pytest.raises(ValueError, match=r"matched: a crop of \(64, 80\) at \(100, 0\) does not fit into \(120, 150\)"):
        transform(matched_pair(), Geometry(None, (False, False), (100, 0)), STILL)


def test_every_corner_of_the_frame_is_drawn() -> None:
    config = replace(STILL, crop=(118, 149), scale_chance=0.0, flip_chance=(0.0, 0.0))
    sample, rng = matched_pair(), np.random.default_rng(0)
    corners = {aug.random_geometry(sample, config, rng).corner for _ in range(120)}
    assert corners == {(y, x) for y in range(3) for x in range(2)}


def test_overdrawn_crops_prefer_the_edges() -> None:
    config = replace(STILL, crop=(100, 130), scale_chance=0.0, overdraw=(20, 50))
    sample = matched_pair()
    corners = np.array([aug.random_geometry(sample, config, np.random.default_rng(seed)).corner for seed in range(300)])
    assert (corners >= 0).all()
    assert (corners <= [20, 20]).all()
    assert 0.35 < (corners[:, 0] == 20).mean() < 0.65  # 21 of 41 draws
    assert 0.3 < (corners[:, 1] == 0).mean() < 0.55  # 51 of 121 draws


def test_erasing_paints_patches_of_the_mean_colour_in_a_copy() -> None:
    image = aug.pixels(matched_pair().image2)
    config = replace(STILL, eraser_chance=1.0, eraser_size=(10, 20))
    painted = aug.erase(image, config, np.random.default_rng(1))
    changed = (painted != image).any(axis=2)
    assert 0 < changed.sum() <= 2 * 19 * 19
    assert (painted[changed] == image.reshape(-1, 3).mean(axis=0).astype(np.uint8)).all()
    never = replace(config, eraser_chance=0.0)
    np.testing.assert_array_equal(aug.erase(image, never, np.random.default_rng(1)), image)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_pair_made_still_is_one_frame_twice_without_motion(sparse: bool) -> None:
    sample = augment(recorded_sample(sparse), replace(STILL, still_chance=1.0), np.random.default_rng(0))
    assert torch.equal(sample.image1, sample.image2)
    assert sample.valid.all()
    assert not sample.flow.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": (0, 5)}, "crop must be at least 1 pixel"),
        ({"eraser_size": (5, 5)}, "eraser_size must be 0 < least < bound"),
        ({"scale": (0.5, -0.5)}, r"scale must be \(least, greatest\)"),
        ({"still_chance": -0.1}, r"chances must be in \[0, 1\], got -0.1"),
        ({"eraser_chance": 1.5}, r"chances must be in \[0, 1\], got 1.5"),
    ],
)
def test_settings_are_checked_when_made(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(STILL, **change)
