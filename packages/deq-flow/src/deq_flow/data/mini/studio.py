"""Shared code of the miniature sets: scenes of photographs, written in the layouts of the published sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from deq_core.experiment.data.images import write_image, write_mask
from deq_flow.data.io import write_flo, write_kitti
from deq_flow.data.mini.final_pass import FinalPassConfig, final_pass, random_fog
from deq_flow.data.mini.scenes import Layer, SceneConfig, View, exact_flow, random_scene, render

Photographs = tuple[np.ndarray, ...]
"""uint8 RGB (h, w, 3) each."""


@dataclass(frozen=True)
class Studio:
    """Settings that all scenes of the miniature sets share."""

    seed: int
    size: tuple[int, int]
    """(h, w), pixels."""
    scene: SceneConfig
    final: FinalPassConfig
    density: float
    """Share of pixels with known flow in KITTI and HD1K."""
    advance: Callable[[], object]
    """Called after every view, to show progress."""

    def random(self, kind: int, index: int) -> np.random.Generator:
        """The random generator of an item, independent of other items."""
        return np.random.default_rng([self.seed, kind, index])

    def layers(self, rng: np.random.Generator, pictures: Photographs, *, pace: float = 1.0) -> tuple[Layer, ...]:
        """A random scene."""
        return random_scene(rng, pictures, self.size, self.scene, pace=pace)

    def pair(self, rng: np.random.Generator, pictures: Photographs) -> tuple[View, View, np.ndarray, np.ndarray]:
        """Views of a random scene half a frame before and after time 0, with flow and occlusions from the first."""
        layers = self.layers(rng, pictures)
        first, second = (render(layers, time, self.size) for time in (-0.5, 0.5))
        return first, second, *exact_flow(layers, first, 0.5)

    def known(self, rng: np.random.Generator) -> np.ndarray:
        """bool (h, w): random pixels with known flow."""
        return rng.uniform(size=self.size) < self.density

    def camera(self, rng: np.random.Generator) -> Callable[[View, np.ndarray, int], Tensor]:
        """The final pass of a scene, as a function of a view, its flow to the next frame and the number of layers."""
        fog = random_fog(rng, self.final)
        return lambda view, flow, depth: picture(final_pass(view.image, flow, view.top / depth, fog, rng, self.final))


def write_film(
    folder: Path,
    scene: str,
    layers: tuple[Layer, ...],
    times: Sequence[float],
    studio: Studio,
    *,
    final: np.random.Generator | None = None,
    masks: bool = True,
) -> None:
    """Writes a scene in the layout of Sintel/training: the clean pass, flow and occlusions.

    Args:
        folder: folder of all scenes.
        scene: name of the scene.
        layers: layers of the scene, back to front.
        times: times of the frames, and of one more.
        studio: settings that all scenes share.
        final: random generator of the final pass; None writes no final pass.
        masks: whether occlusions are written.
    """
    camera = None if final is None else studio.camera(final)
    for number, (time, later) in enumerate(pairwise(times), start=1):
        view = render(layers, time, studio.size)
        flow, occluded = exact_flow(layers, view, later)
        name = f"{scene}/frame_{number:04d}"
        write_image(folder / "clean" / f"{name}.png", picture(view.image))
        if camera is not None:
            write_image(folder / "final" / f"{name}.png", camera(view, flow, len(layers)))
        if number < len(times) - 1:
            write_flo(folder / "flow" / f"{name}.flo", torch.from_numpy(flow))
            if masks:
                write_mask(folder / "occlusions" / f"{name}.png", torch.from_numpy(occluded))
        studio.advance()


def write_kitti_pair(
    folder: Path, index: int, rng: np.random.Generator, pictures: Photographs, studio: Studio, *, masks: bool = True
) -> None:
    """Writes a pair of KITTI/training: flow_occ at random pixels, and with `masks` flow_noc at the visible ones."""
    first, second, flow, occluded = studio.pair(rng, pictures)
    known = studio.known(rng)
    write_image(folder / "image_2" / f"{index:06d}_10.png", picture(first.image))
    write_image(folder / "image_2" / f"{index:06d}_11.png", picture(second.image))
    for kind, valid in {"flow_occ": known, **({"flow_noc": known & ~occluded} if masks else {})}.items():
        write_kitti(folder / kind / f"{index:06d}_10.png", torch.from_numpy(flow), torch.from_numpy(valid))
    studio.advance()


def times(frames: int) -> list[float]:
    """Times of the frames of a scene and of one more, centred on time 0, when objects are where they were placed."""
    return [frame - (frames - 1) / 2 for frame in range(frames + 1)]


def picture(pixels: np.ndarray) -> Tensor:
    """uint8 (h, w, 3) as a tensor (3, h, w)."""
    return rearrange(torch.from_numpy(pixels), "h w c -> c h w")
