"""Renders a street: colours, with exact classes and objects of every pixel."""

from dataclasses import dataclass

import cv2
import numpy as np

from deq_vision.data.mini.silhouettes import BODY, OUTSIDE, PART_COLOURS, silhouette
from deq_vision.data.mini.street import (
    BUILDING,
    COUNTABLE,
    REACH,
    ROAD,
    SIDEWALK,
    SKY,
    VEGETATION,
    Street,
    Wall,
)

FINER = 2  # supersampling: rays per pixel along each axis
NEAREST = 2.0  # metres; movers nearer to the camera are left out
HAZE = 140.0  # metres after which haze hides 63 %
SKY_METRES = 60.0  # metres of its material per radian of sky


@dataclass(frozen=True)
class View:
    """A rendered view of a street."""

    image: np.ndarray
    """uint8 RGB (h, w, 3)."""
    labels: np.ndarray
    """uint8 (h, w), indices of `street.NAMES`."""
    instances: np.ndarray
    """int64 (h, w): 1 + index of the visible mover, 0 where there is none of a class in `COUNTABLE`."""
    unhidden: dict[int, int]
    """Number of pixels that each such mover, by 1 + index, would cover without occlusion."""


@dataclass
class Trace:
    """What the rays hit, (h, w) each; filled from back to front."""

    label: np.ndarray
    instance: np.ndarray
    material: np.ndarray
    across: np.ndarray
    """Metres along the surface; for walls and ground in coordinates of the street, so that textures do not move."""
    along: np.ndarray
    depth: np.ndarray
    """Metres from the camera along its axis."""
    part: np.ndarray
    """Part of a mover: `silhouettes.BODY` and so on."""
    unhidden: dict[int, int]


def render(street: Street, time: float, size: tuple[int, int], noise: float, rng: np.random.Generator) -> View:
    """Renders the street at a time as an image of `size` (h, w), with camera noise."""
    coarse = trace(street, time, size)
    fine = trace(street, time, (FINER * size[0], FINER * size[1]))
    image = cv2.resize(shade(street, fine, FINER * size[1]), size[::-1], interpolation=cv2.INTER_AREA)
    image = image * street.light.astype(np.float32) + noise * rng.standard_normal(image.shape, dtype=np.float32)
    pixels = np.rint(image).clip(0, 255).astype(np.uint8)
    return View(pixels, coarse.label.astype(np.uint8), coarse.instance, coarse.unhidden)


def trace(street: Street, time: float, size: tuple[int, int]) -> Trace:
    """Traces a ray through the centre of each pixel."""
    height, width = size
    x, z, yaw, horizon = street.camera.pose(time)
    focal = street.camera.focal * width
    right = ((np.arange(width) + 0.5) / width - 0.5) / street.camera.focal
    down = (np.arange(height) + 0.5 - horizon * width) / focal
    right, up = np.broadcast_arrays(right[None, :], -down[:, None])
    sideways = right * np.cos(yaw) + np.sin(yaw)  # per metre along the camera's axis, as are `ahead` and `up`
    ahead = np.cos(yaw) - right * np.sin(yaw)
    hit = trace_sky(street, np.arctan2(right, 1.0) + yaw, up)
    trace_ground(street, hit, (x, z), (sideways, ahead, up))
    for side, wall in zip((-1, 1), street.walls, strict=True):
        trace_wall(street, hit, side, wall, (x, z), (sideways, ahead, up))
    trace_movers(street, hit, time, (x, z, yaw), focal, horizon * width)
    return hit


Rays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Metres right, along the street and up, for each metre along the camera's axis; (h, w) each."""


def trace_sky(street: Street, bearing: np.ndarray, up: np.ndarray) -> Trace:
    """A trace of sky alone."""
    shape = bearing.shape
    return Trace(
        label=np.full(shape, SKY),
        instance=np.zeros(shape, dtype=np.int64),
        material=np.full(shape, street.surfaces[3]),
        across=SKY_METRES * bearing + 1000,
        along=SKY_METRES * up + 1000,
        depth=np.full(shape, np.inf),
        part=np.full(shape, BODY),
        unhidden={},
    )


def trace_ground(street: Street, hit: Trace, origin: tuple[float, float], rays: Rays) -> None:
    """Adds road, sidewalks, and grass behind the walls."""
    sideways, ahead, up = rays
    below = up < 0
    depth = np.where(below, street.camera.height / np.where(below, -up, 1.0), np.inf)
    below &= depth < REACH
    x, z = origin[0] + sideways * depth, origin[1] + ahead * depth
    off = np.abs(x)
    regions = (
        (below & (off <= street.kerb), ROAD, street.surfaces[0]),
        (below & (off > street.kerb) & (off <= street.front), SIDEWALK, street.surfaces[1]),
        (below & (off > street.front), VEGETATION, street.surfaces[2]),
    )
    for where, label, material in regions:
        hit.label[where] = label
        hit.material[where] = material
        hit.across[where] = x[where]
        hit.along[where] = z[where]
        hit.depth[where] = depth[where]


def trace_wall(street: Street, hit: Trace, side: int, wall: Wall, origin: tuple[float, float], rays: Rays) -> None:
    """Adds the houses and hedges of one side, where nothing hit so far is nearer."""
    towards = np.nonzero(side * rays[0] > 1e-6)
    sideways, ahead, up = (ray[towards] for ray in rays)
    depth = (side * street.front - origin[0]) / sideways
    z, y = origin[1] + ahead * depth, street.camera.height + up * depth
    index = np.searchsorted(wall.edges, z, side="right") - 1
    within = (index >= 0) & (index < len(wall.heights)) & (depth < REACH) & (depth < hit.depth[towards])
    index = index.clip(0, len(wall.heights) - 1)
    kind, top = wall.kinds[index], wall.heights[index]
    ragged = top * (1 + 0.08 * np.sin(1.7 * z) + 0.06 * np.sin(4.1 * z + 1))
    seen = within & (y <= np.where(kind == VEGETATION, ragged, top)) & (top > 0)
    where = (towards[0][seen], towards[1][seen])
    hit.label[where] = kind[seen]
    hit.material[where] = wall.materials[index][seen]
    hit.across[where] = z[seen]
    hit.along[where] = y[seen]
    hit.depth[where] = depth[seen]


def trace_movers(
    street: Street, hit: Trace, time: float, pose: tuple[float, float, float], focal: float, horizon: float
) -> None:
    """Adds the movers and trees, from back to front."""
    x, z, yaw = pose
    height, width = hit.label.shape
    seen = []
    for number, mover in enumerate(street.movers, start=1):
        there = mover.place(time)
        off, ahead = there[0] - x, there[1] - z
        seen.append((ahead * np.cos(yaw) + off * np.sin(yaw), off * np.cos(yaw) - ahead * np.sin(yaw), number))
    for depth, off, number in sorted(seen, reverse=True):
        mover = street.movers[number - 1]
        if not NEAREST < depth < REACH:
            continue
        scale = focal / depth
        centre, bottom = width / 2 + off * scale, horizon + street.camera.height * scale
        half, tall = mover.width * scale / 2, mover.height * scale
        left, right = (int(np.clip(edge, 0, width)) for edge in (np.floor(centre - half), np.ceil(centre + half)))
        top, end = (int(np.clip(edge, 0, height)) for edge in (np.floor(bottom - tall), np.ceil(bottom)))
        if left >= right or top >= end:
            continue
        across = (np.arange(left, right) + 0.5 - centre) / half
        up = (bottom - np.arange(top, end) - 0.5) / tall
        across, up = np.broadcast_arrays(across[None, :], up[:, None])
        parts = silhouette(mover, across, up, time)
        where = parts != OUTSIDE
        window = (slice(top, end), slice(left, right))
        hit.label[window][where] = mover.kind
        hit.instance[window][where] = number if mover.kind in COUNTABLE else 0
        hit.material[window][where] = mover.material
        hit.across[window][where] = (across * mover.width / 2 + 50)[where]
        hit.along[window][where] = (up * mover.height)[where]
        hit.depth[window][where] = depth
        hit.part[window][where] = parts[where]
        if mover.kind in COUNTABLE and where.any():
            hit.unhidden[number] = int(where.sum())


def shade(street: Street, hit: Trace, width: int) -> np.ndarray:
    """Colours of a trace, float32 RGB (h, w, 3), before light and noise."""
    finite = np.isfinite(hit.depth)
    depth = np.where(finite, hit.depth, SKY_METRES)
    footprint = depth / (street.camera.focal * width)
    colour = street.materials.colour(hit.material, hit.across, hit.along, footprint).astype(np.float32)
    part = hit.part > BODY
    colour[part] = PART_COLOURS[hit.part[part]]
    storey, column = hit.along / 3.2 % 1, hit.across / 2.6 % 1
    window = (hit.label == BUILDING) & (np.abs(storey - 0.55) < 0.22) & (np.abs(column - 0.5) < 0.24)
    colour[window] = 0.45 * colour[window] + 0.55 * PART_COLOURS[1]
    line = (hit.label == ROAD) & (np.abs(hit.across) < 0.12) & (hit.along / 6 % 1 < 0.5)
    colour[line] = 0.4 * colour[line] + 0.6 * 215
    far = np.where(finite, 1 - np.exp(-depth / HAZE), 0.0)[:, :, None].astype(np.float32)
    return colour + far * (street.haze.astype(np.float32) - colour)
