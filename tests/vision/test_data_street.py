"""The geometry of streets: points stay where they are while the camera moves, and what is nearer hides what is not."""

import math
from dataclasses import replace

import numpy as np
import pytest

from deq_vision.data.mini.street import BUS, CAR, PERSON, ROAD, SIDEWALK, Street, StreetConfig, random_street
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


@pytest.mark.parametrize(
    ("seed", "classes", "picture"),
    [
        (1, [1535, 535, 2209, 800, 1121, 143, 740, 1109], 0.0335),
        (3, [2128, 822, 4020, 71, 576, 40, 339, 196], 0.3974),
        (5, [1895, 351, 1934, 1076, 1121, 271, 728, 816], 0.4959),
    ],
)
def test_streets_are_those_that_published_networks_were_trained_on(
    seed: int, classes: list[int], picture: float
) -> None:
    """Pixels of each class, and the picture's mean after multiplication by normal numbers, as they were in 2026."""
    view = render(street(seed, movers=(8, 12)), 4.0, SIZE, 6.0, np.random.default_rng(seed))
    assert np.bincount(view.labels.ravel(), minlength=8).tolist() == classes
    weights = np.random.default_rng(0).standard_normal(view.image.shape)
    assert float((weights * view.image).mean()) == pytest.approx(picture, abs=2e-3)


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
