"""Random synthetic streets: geometry, surfaces cut from photographs, and moving objects.

Coordinates are in metres: x to the right from the middle of the road, y up from the ground, z along the street. Times
are in frames; at time 0 everything is at its initial position, in front of a camera at z = 0.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from deq_vision.data.mini.materials import Materials, random_materials

NAMES = ("road", "sidewalk", "building", "vegetation", "sky", "person", "car", "bus")
ROAD, SIDEWALK, BUILDING, VEGETATION, SKY, PERSON, CAR, BUS = range(8)
COUNTABLE = (PERSON, CAR, BUS)
"""Classes with distinct objects."""
COLOURS: tuple[tuple[float, float, float], ...] = (
    (104, 102, 106),
    (138, 130, 122),
    (128, 112, 102),
    (88, 104, 70),
    (160, 172, 192),
    (110, 95, 95),
    (115, 115, 118),
    (135, 115, 85),
)
"""Mean colour of each class, RGB."""
SPREAD = (14.0, 18.0, 34.0, 24.0, 30.0, 55.0, 60.0, 55.0)
"""Standard deviation of the mean colours of surfaces, for each class."""
REACH = 260.0  # metres of street ahead of the camera
HOUSES, HEDGES = 6, 3  # numbers of materials that the walls of a street share


@dataclass(frozen=True, kw_only=True)
class StreetConfig:
    """Distribution of the streets and of the motion in them. Speeds are in metres per frame."""

    speed: tuple[float, float] = (0.0, 0.45)
    """Minimum and maximum speed of the camera along the street."""
    turn: float = 0.004
    """Standard deviation of the camera's yaw rate, radians per frame."""
    movers: tuple[int, int] = (5, 10)
    """Minimum and maximum number of persons, cars and buses in front of the camera."""
    leader: float = 0.5
    """Share of the streets in which the camera follows a car."""
    trees: tuple[int, int] = (1, 5)
    distance: tuple[float, float] = (4.5, 32.0)
    """Minimum and maximum initial distance of objects, metres."""
    grain: float = 20.0
    """Standard deviation of brightness within a surface, grey levels."""
    chroma: float = 0.5
    """Share of the photographs' colour variation that surfaces keep."""
    colour_spread: float = 1.0
    """Factor of the variation in colour between surfaces of a class."""
    noise: float = 5.0
    """Standard deviation of the camera's noise, grey levels."""

    def __post_init__(self) -> None:
        for name in ("speed", "movers", "trees", "distance"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be 0 <= least <= greatest, got {(low, high)}")
        if self.distance[0] < 2:
            raise ValueError(f"distance must be at least 2 metres, got {self.distance}")
        if not 0 <= self.leader <= 1:
            raise ValueError(f"leader must be in [0, 1], got {self.leader}")
        for name in ("turn", "grain", "chroma", "colour_spread", "noise"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that drives along the street. Lengths in the image are shares of its width."""

    focal: float
    horizon: float
    """Row of the horizon at time 0."""
    height: float
    """Metres above the ground."""
    x: float
    speed: float
    yaw: float
    """Yaw at time 0, radians to the right."""
    turn: float
    """Yaw rate, radians per frame."""
    nod: tuple[float, float, float]
    """Amplitude, frequency (radians per frame) and phase of the horizon's motion."""

    def pose(self, time: float) -> tuple[float, float, float, float]:
        """x, z, yaw and the row of the horizon."""
        amplitude, frequency, phase = self.nod
        nod = amplitude * np.sin(frequency * time + phase)
        return self.x, self.speed * time, self.yaw + self.turn * time, self.horizon + nod


@dataclass(frozen=True)
class Wall:
    """One side of the street: a row of houses, hedges and gaps."""

    edges: np.ndarray
    """(n + 1,), z of the boundaries between them."""
    heights: np.ndarray
    """(n,), metres; 0 for a gap."""
    kinds: np.ndarray
    """(n,), BUILDING or VEGETATION."""
    materials: np.ndarray
    """(n,)."""


@dataclass(frozen=True)
class Mover:
    """A flat object that faces the camera and stands on the ground."""

    kind: int
    """PERSON, CAR, BUS, or VEGETATION for a tree."""
    pose: Literal["front", "side"]
    x: float
    z: float
    velocity: tuple[float, float]
    """Velocity in x and z."""
    width: float
    height: float
    material: int
    phase: float
    """Phase of a person's walk or of a tree's outline."""

    def place(self, time: float) -> tuple[float, float]:
        """x and z."""
        return self.x + self.velocity[0] * time, self.z + self.velocity[1] * time


@dataclass(frozen=True)
class Street:
    """A street with all that determines its image at a time."""

    camera: Camera
    kerb: float
    """Half the width of the road."""
    front: float
    """Distance of the walls from the middle of the road."""
    walls: tuple[Wall, Wall]
    """Left and right."""
    movers: tuple[Mover, ...]
    materials: Materials
    surfaces: tuple[int, int, int, int]
    """Materials of road, sidewalk, grass behind the walls, and sky."""
    light: np.ndarray
    """RGB (3,), factor of every colour."""
    haze: np.ndarray
    """RGB (3,), colour of distant surfaces."""


def random_street(rng: np.random.Generator, photographs: tuple[np.ndarray, ...], config: StreetConfig) -> Street:
    """Draws a street with surfaces from `photographs`."""
    kerb = rng.uniform(3.6, 4.6)
    front = kerb + rng.uniform(2.2, 3.6)
    kinds = [ROAD, SIDEWALK, VEGETATION, SKY]  # class of each material
    kinds += [BUILDING] * HOUSES + [VEGETATION] * HEDGES
    walls = (random_wall(rng, 4), random_wall(rng, 4))
    camera = random_camera(rng, kerb, config)
    movers = [leader(rng, camera, kinds)] if rng.uniform() < config.leader else []
    for _ in range(rng.integers(*config.movers, endpoint=True)):
        movers.append(random_mover(rng, kerb, front, config, kinds))
    for _ in range(rng.integers(*config.trees, endpoint=True)):
        movers.append(random_tree(rng, kerb, front, config, kinds))
    colours = [
        np.array(COLOURS[kind]) + config.colour_spread * SPREAD[kind] * (0.8 * rng.normal() + 0.4 * rng.normal(size=3))
        for kind in kinds
    ]
    densities = [
        {SKY: 1.0, PERSON: 40.0, CAR: 30.0, BUS: 24.0}.get(kind, 10.0) * rng.uniform(0.7, 1.4) for kind in kinds
    ]
    materials = random_materials(rng, photographs, colours, densities, grain=config.grain, chroma=config.chroma)
    light = rng.uniform(0.75, 1.2) * rng.uniform(0.93, 1.07, 3)
    return Street(camera, kerb, front, walls, tuple(movers), materials, (0, 1, 2, 3), light, colours[3])


def random_camera(rng: np.random.Generator, kerb: float, config: StreetConfig) -> Camera:
    return Camera(
        focal=rng.uniform(0.5, 0.62),
        horizon=rng.uniform(0.2, 0.27),
        height=rng.uniform(1.6, 2.3),
        x=rng.uniform(0.0, 0.45) * kerb,
        speed=rng.uniform(*config.speed),
        yaw=float(np.clip(rng.normal(0, 0.05), -0.12, 0.12)),
        turn=float(np.clip(rng.normal(0, config.turn), -2 * config.turn, 2 * config.turn)),
        nod=(rng.uniform(0, 0.006), rng.uniform(0.2, 0.7), rng.uniform(0, 2 * np.pi)),
    )


def random_wall(rng: np.random.Generator, first: int) -> Wall:
    """Draws houses, hedges and gaps from behind the camera to `REACH`, with materials numbered from `first` on."""
    edges, heights, kinds, materials = [-40.0], [], [], []
    while edges[-1] < REACH:
        choice = rng.uniform()
        if choice < 0.7:
            kind, height, length = BUILDING, rng.uniform(6, 18), rng.uniform(7, 20)
        elif choice < 0.9:
            kind, height, length = VEGETATION, rng.uniform(1.5, 7), rng.uniform(5, 15)
        else:
            kind, height, length = VEGETATION, 0.0, rng.uniform(4, 10)
        edges.append(edges[-1] + length)
        heights.append(height)
        kinds.append(kind)
        materials.append(first + int(rng.integers(HOUSES) if kind == BUILDING else HOUSES + rng.integers(HEDGES)))
    return Wall(np.array(edges), np.array(heights), np.array(kinds), np.array(materials))


def leader(rng: np.random.Generator, camera: Camera, kinds: list[int]) -> Mover:
    """Draws a car ahead of the camera, about as fast as it; adds its material to `kinds`."""
    kinds.append(CAR)
    return Mover(
        kind=CAR,
        pose="front",
        x=camera.x + rng.uniform(-0.4, 0.4),
        z=rng.uniform(5.5, 12.0),
        velocity=(0.0, camera.speed + rng.uniform(-0.05, 0.05)),
        width=rng.uniform(1.7, 2.0),
        height=rng.uniform(1.4, 1.8),
        material=len(kinds) - 1,
        phase=0.0,
    )


def random_mover(rng: np.random.Generator, kerb: float, front: float, config: StreetConfig, kinds: list[int]) -> Mover:
    """Draws a person, car or bus; adds its material to `kinds`."""
    kind = (PERSON, CAR, BUS)[rng.choice(3, p=(0.45, 0.38, 0.17))]
    crossing = rng.uniform() < 0.3
    side = 1 if rng.uniform() < 0.5 else -1
    z = float(np.exp(rng.uniform(*np.log(config.distance))))
    if kind == PERSON:
        width, height = rng.uniform(0.6, 0.8), rng.uniform(1.5, 1.9)
        pace, lane = rng.uniform(0.02, 0.1), rng.uniform(kerb + 0.3, front - 0.3)
        z *= 0.75
    elif kind == CAR:
        width, height = rng.uniform(3.6, 4.6) if crossing else rng.uniform(1.7, 2.0), rng.uniform(1.4, 1.8)
        pace, lane = rng.choice((0.0, rng.uniform(0.1, 0.5))), rng.uniform(1.2, kerb - 0.8)
    else:
        width, height = rng.uniform(7.0, 10.0) if crossing else rng.uniform(2.4, 2.7), rng.uniform(2.8, 3.4)
        pace, lane = rng.choice((0.0, rng.uniform(0.1, 0.4))), rng.uniform(1.6, kerb - 1.0)
        z += 4.0
    kinds.append(kind)
    way = float(pace if rng.uniform() < 0.5 else -pace)
    return Mover(
        kind=kind,
        pose="side" if crossing else "front",
        x=float(rng.uniform(-kerb, kerb) if crossing else side * lane),
        z=z,
        velocity=(way, 0.0) if crossing else (0.0, way),
        width=width,
        height=height,
        material=len(kinds) - 1,
        phase=rng.uniform(0, 2 * np.pi),
    )


def random_tree(rng: np.random.Generator, kerb: float, front: float, config: StreetConfig, kinds: list[int]) -> Mover:
    """Draws a tree at the kerb; adds its material to `kinds`."""
    z = float(np.exp(rng.uniform(*np.log(config.distance))))
    x = float(rng.choice((-1, 1)) * rng.uniform(kerb + 0.3, front - 0.5))
    kinds.append(VEGETATION)
    return Mover(
        kind=VEGETATION,
        pose="front",
        x=x,
        z=z,
        velocity=(0.0, 0.0),
        width=rng.uniform(2, 4),
        height=rng.uniform(3.5, 7),
        material=len(kinds) - 1,
        phase=rng.uniform(0, 2 * np.pi),
    )
