"""Surface textures cut from photographs, recoloured, at several levels of detail (mipmaps)."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 96  # texels of a material, which repeats mirrored
LEVELS = 4  # each at half the resolution of the one before
CANDIDATES = 3  # crops of a photograph per material; the one with most contrast is taken


@dataclass(frozen=True)
class Materials:
    """Surface textures of a scene."""

    texels: np.ndarray
    """uint8 RGB (n, LEVELS, SIDE, SIDE, 3)."""
    density: np.ndarray
    """(n,), texels per metre."""

    def colour(self, which: np.ndarray, across: np.ndarray, along: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Colours, uint8 RGB (..., 3), of materials `which` (...) at positions in metres, averaged over `footprint`."""
        density = self.density[which]
        level = np.log2(np.maximum(density * footprint, 1.0)).round().astype(np.int64)
        column, row = (mirrored((place * density).astype(np.int64)) for place in (across, along))
        return self.texels[which, np.minimum(level, LEVELS - 1), row, column]


def mirrored(texel: np.ndarray) -> np.ndarray:
    """Reflects integers into 0 to SIDE - 1: forwards, backwards, forwards, ..."""
    place = texel % (2 * SIDE)
    return np.where(place < SIDE, place, 2 * SIDE - 1 - place)


def random_materials(
    rng: np.random.Generator,
    photographs: tuple[np.ndarray, ...],
    colours: Sequence[np.ndarray],
    densities: Sequence[float],
    *,
    grain: float,
    chroma: float,
) -> Materials:
    """Makes one material for each mean colour, RGB (3,).

    Args:
        rng: chooses the crops of photographs.
        photographs: uint8 RGB (h, w, 3) each.
        colours: mean colours, grey levels.
        densities: texels per metre.
        grain: standard deviation of a material's brightness, grey levels.
        chroma: share of the photograph's differences in colour that is kept.
    """
    pieces = [random_material(rng, photographs, colour, grain, chroma) for colour in colours]
    return Materials(np.stack(pieces), np.asarray(densities, dtype=np.float64))


def random_material(
    rng: np.random.Generator, photographs: tuple[np.ndarray, ...], colour: np.ndarray, grain: float, chroma: float
) -> np.ndarray:
    """Makes a material of one mean colour, uint8 RGB (LEVELS, SIDE, SIDE, 3)."""
    photograph = photographs[rng.integers(len(photographs))]
    largest = min(2 * SIDE, *photograph.shape[:2])
    pieces = []
    for _ in range(CANDIDATES):
        side = int(rng.integers(SIDE // 2, largest, endpoint=True))
        y, x = (int(rng.integers(length - side, endpoint=True)) for length in photograph.shape[:2])
        pieces.append(photograph[y : y + side, x : x + side])
    piece = max(pieces, key=lambda pixels: float(pixels[::4, ::4, 1].std()))
    piece = cv2.resize(piece, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    light = piece.mean(axis=2, keepdims=True)
    spread = max(float(light.std()), 1.0)
    hue = piece - light
    texture = colour + grain / spread * (light - light.mean()) + chroma * (hue - hue.mean(axis=(0, 1)))
    texture = np.rint(texture.clip(0, 255)).astype(np.uint8)
    return np.stack([texture, *(blurred(texture, SIDE >> level) for level in range(1, LEVELS))])


def blurred(texture: np.ndarray, side: int) -> np.ndarray:
    """The texture reduced to side x side texels and enlarged again."""
    return cv2.resize(cv2.resize(texture, (side, side), interpolation=cv2.INTER_AREA), (SIDE, SIDE))
