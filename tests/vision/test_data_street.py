"""The geometry of streets: points stay where they are while the camera moves, and what is nearer hides what is not."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from deq_vision.data.mini import materials, silhouettes
from deq_vision.data.mini.materials import Materials, mirrored, random_materials
from deq_vision.data.mini.street import BUS, CAR, PERSON, ROAD, SIDEWALK, SKY, Street, StreetConfig, random_street
from deq_vision.data.mini.street_view import render, trace

SIZE = (64, 128)
PICTURES = tuple(np.random.default_rng(seed).integers(0, 256, (200, 240, 3), dtype=np.uint8) for seed in range(3))


def street(seed: int, **changes: object) -> Street:
    return random_street(np.random.default_rng(seed), PICTURES, replace(StreetConfig(), **changes))  # pyright: ignore[reportArgumentType]


def project(place: Street, x: float, z: float, time: float) -> tuple[float, float]:
    """Column and row, in pixels, at which the camera sees a point of the ground."""
    camera_x, camera_z, yaw, horizon = place.camera.pose(time)
    off, ahead = x - camera_x, z - camera_z
    depth = ahead * math.cos(yaw) + off * math.sin(yaw)
    right = off * math.cos(yaw) - ahead * math.sin(yaw)
    scale = place.camera.focal * SIZE[1] / depth
    return SIZE[1] / 2 + right * scale - 0.5, horizon * SIZE[1] + place.camera.height * scale - 0.5


@pytest.mark.parametrize("seed", range(5))
def test_points_of_the_ground_stand_still_while_the_camera_drives_turns_and_nods(seed: int) -> None:
    place = street(seed, movers=(0, 0), trees=(0, 0), leader=0.0, speed=(0.3, 0.4), turn=0.01)
    compared = 0
    for time in (-12.0, 0.0, 9.0):
        hit = trace(place, time, SIZE)
        ground = (hit.label == ROAD) | (hit.label == SIDEWALK)
        for row, column in np.argwhere(ground)[::37]:
            x, z = float(hit.across[row, column]), float(hit.along[row, column])
            found = project(place, x, z, time)
            assert found == pytest.approx((column, row), abs=1e-6)
            later = project(place, x, z, time + 1)
            assert later != pytest.approx(found, abs=1e-3)
            compared += 1
    assert compared > 100


@pytest.mark.parametrize("seed", range(5))
def test_the_camera_sees_the_same_at_any_resolution(seed: int) -> None:
    coarse, fine = trace(street(seed), 0.0, SIZE), trace(street(seed), 0.0, (3 * SIZE[0], 3 * SIZE[1]))
    middles = fine.label[1::3, 1::3]  # the ray through the middle of each pixel
    assert np.array_equal(coarse.label, middles)
    assert np.array_equal(coarse.instance, fine.instance[1::3, 1::3])


@pytest.mark.parametrize("seed", range(5))
def test_nearer_things_hide_farther_ones(seed: int) -> None:
    place = street(seed, movers=(8, 12))
    place = replace(place, camera=replace(place.camera, yaw=0.0))  # so that depth is z
    hit = trace(place, 0.0, SIZE)
    for number, mover in enumerate(place.movers, start=1):
        seen = int((hit.instance == number).sum())
        if mover.kind in (PERSON, CAR, BUS):
            assert seen <= hit.unhidden.get(number, 0)
            alone = trace(replace(place, movers=(mover,)), 0.0, SIZE)
            assert int((alone.instance == 1).sum()) == hit.unhidden.get(number, 0)
            nearer = [other for other in place.movers if other.z < mover.z]
            without = trace(replace(place, movers=(*nearer, mover)), 0.0, SIZE)
            assert int((without.instance == len(nearer) + 1).sum()) == seen


def test_movers_move_and_others_do_not() -> None:
    place = street(3, speed=(0.0, 0.0), turn=0.0)
    still = replace(place, camera=replace(place.camera, nod=(0.0, 1.0, 0.0)))
    before, after = trace(still, 0.0, SIZE), trace(still, 4.0, SIZE)
    moving = {number for number, mover in enumerate(still.movers, start=1) if mover.velocity != (0.0, 0.0)}
    touched = np.isin(before.instance, list(moving)) | np.isin(after.instance, list(moving))
    changed = before.label != after.label
    assert changed.any()
    assert not (changed & ~touched).any()


def test_there_is_sky_above_and_road_below() -> None:
    for seed in range(10):
        labels = trace(street(seed, movers=(0, 0), trees=(0, 0), leader=0.0), 0.0, SIZE).label
        assert (labels[-1] == ROAD).sum() > 40
        assert ((labels == SKY).any(axis=0)).sum() > 10
        assert set(np.unique(labels)) <= set(range(5))


def test_pictures_are_the_mean_of_the_rays_with_the_noise_of_a_camera() -> None:
    place = street(0)
    clean, again = (render(place, 0.0, SIZE, 0.0, np.random.default_rng(seed)).image for seed in (0, 1))
    assert np.array_equal(clean, again)
    noisy = render(place, 0.0, SIZE, 6.0, np.random.default_rng(0)).image.astype(float)
    inside = (clean > 30) & (clean < 225)
    assert float((noisy - clean)[inside].std()) == pytest.approx(6.0, rel=0.1)


def test_materials_have_the_colour_and_the_grain_asked_for() -> None:
    colours = [np.array([100.0, 120.0, 140.0]), np.array([60.0, 60.0, 60.0])]
    found = random_materials(np.random.default_rng(0), PICTURES, colours, [10.0, 10.0], grain=12.0, chroma=0.0)
    for texels, colour in zip(found.texels, colours, strict=True):
        assert texels[0].mean(axis=(0, 1)) == pytest.approx(colour, abs=1)
        assert texels[0].mean(axis=2).std() == pytest.approx(12.0, abs=1.5)
        spread = [float(level.astype(float).std(axis=(0, 1)).mean()) for level in texels]
        assert spread == sorted(spread, reverse=True)  # from afar, grain is averaged out


def test_a_material_is_mirrored_beyond_its_texels() -> None:
    side = materials.SIDE
    assert mirrored(np.array([0, side - 1, side, 2 * side - 1, 2 * side, -1])).tolist() == [
        0,
        side - 1,
        side - 1,
        0,
        0,
        0,
    ]
    texels = np.zeros((1, materials.LEVELS, side, side, 3), np.uint8)
    texels[0, :, :, :, 0] = np.arange(side)
    texels[0, :, :, :, 1] = np.arange(side)[:, None]
    texels[0, :, :, :, 2] = np.arange(materials.LEVELS)[:, None, None]
    surface = Materials(texels, np.array([2.0]))
    which = np.zeros(3, dtype=np.int64)
    found = surface.colour(which, np.array([1.0, 5.25, 3.0]), np.array([4.0, 0.0, 0.0]), np.array([0.1, 1.0, 100.0]))
    assert found.tolist() == [[2, 8, 0], [10, 0, 1], [6, 0, 3]]


@pytest.mark.parametrize("kind", [PERSON, CAR, BUS])
@pytest.mark.parametrize("pose", ["front", "side"])
def test_silhouettes_are_one_piece_that_fills_its_box(kind: int, pose: str) -> None:
    place = street(0, movers=(12, 12))
    mover = replace(next(mover for mover in place.movers if mover.kind == kind), pose=pose)
    across, up = np.meshgrid(np.linspace(-1, 1, 101), np.linspace(0, 1, 101))
    inside = silhouettes.silhouette(mover, across, up, 0.0) != silhouettes.OUTSIDE
    assert 0.3 < inside.mean() < 0.95
    pieces, _ = cv2.connectedComponents(inside.astype(np.uint8))
    assert pieces == 2  # the outside and the mover
    columns, rows = across[inside], up[inside]
    assert rows.min() < 0.05
    assert rows.max() > 0.95
    assert columns.max() > 0.6
    assert columns.min() < -0.6


def test_a_person_walks() -> None:
    place = street(0, movers=(12, 12))
    walker = replace(next(mover for mover in place.movers if mover.kind == PERSON), velocity=(0.05, 0.0))
    across, up = np.meshgrid(np.linspace(-1, 1, 101), np.linspace(0, 1, 101))
    frames = [silhouettes.silhouette(walker, across, up, float(time)) for time in range(3)]
    assert (frames[0] != frames[1]).any()
    assert np.array_equal(frames[0][up > 0.55], frames[1][up > 0.55])  # with the legs alone


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": (1.0, 0.5)}, "speed must be 0 <= least <= greatest"),
        ({"distance": (1.0, 5.0)}, "distance must be at least 2 metres"),
        ({"leader": 1.5}, r"leader must be in \[0, 1\], got 1.5"),
        ({"noise": -1.0}, "noise must not be negative, got -1.0"),
    ],
)
def test_settings_are_checked_when_made(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreetConfig(**change)  # pyright: ignore[reportArgumentType]
