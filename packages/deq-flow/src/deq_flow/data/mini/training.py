"""Miniature FlyingThings3D, Sintel, KITTI and HD1K for training, from other photographs than those for evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from deq_core.experiment.data import photographs
from deq_core.experiment.data.images import write_image
from deq_flow.data.io import write_flo, write_kitti, write_pfm
from deq_flow.data.mini.final_pass import FinalPassConfig, final_pass, random_fog
from deq_flow.data.mini.scenes import Layer, SceneConfig, View, exact_flow, random_scene, render

TRAINED_ON = (*photographs.TRAINING, *photographs.MORE_TRAINING)
"""Photographs of all training sets."""
# The second number of each item's seed, distinct from those of deq_flow.data.mini.write.
THINGS, SINTEL, KITTI, HD1K = range(100, 104)


@dataclass(frozen=True, kw_only=True)
class TrainingSetsConfig:
    """Sizes of the training sets of the later stages of a curriculum."""

    things_scenes: int = 12
    sintel_scenes: int = 6
    frames: int = 5
    """Number of frames of each scene of FlyingThings3D and Sintel, and of each sequence of HD1K."""
    kitti_pairs: int = 24
    hd1k_sequences: int = 4

    def __post_init__(self) -> None:
        counts = (self.things_scenes, self.sintel_scenes, self.kitti_pairs, self.hd1k_sequences)
        if min(counts) < 1 or self.frames < 2:
            raise ValueError(f"training: expected at least 1 of each set and 2 frames, got {self}")

    @property
    def views(self) -> int:
        """Total number of frames and pairs, for progress."""
        return (self.things_scenes + self.sintel_scenes + self.hd1k_sequences) * self.frames + self.kitti_pairs


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


def write_training_sets(root: Path, config: TrainingSetsConfig, studio: Studio) -> None:
    """Writes FlyingThings3D, Sintel, KITTI and HD1K below `root`, in their released layouts."""
    pictures = photographs.load_all(TRAINED_ON)
    write_things(root / "FlyingThings3D", config, studio, pictures)
    write_sintel(root / "Sintel" / "training", config, studio, pictures)
    write_kitti_pairs(root / "KITTI" / "training", config, studio, pictures)
    write_hd1k(root / "HD1k", config, studio, pictures)


def write_things(root: Path, config: TrainingSetsConfig, studio: Studio, pictures: tuple[np.ndarray, ...]) -> None:
    """Writes both render passes of the left camera, and flow forwards and backwards in time."""
    for index in range(config.things_scenes):
        rng = studio.random(THINGS, index)
        layers = random_scene(rng, pictures, studio.size, studio.scene)
        fog = random_fog(rng, studio.final)
        scene = Path("TRAIN") / "A" / f"{index:04d}"
        for frame, time in enumerate(times(config.frames)):
            view = render(layers, time, studio.size)
            future, _ = exact_flow(layers, view, time + 1)
            past, _ = exact_flow(layers, view, time - 1)
            name = f"{frame + 6:04d}"  # the first frame of the release is 6
            write_image(root / "frames_cleanpass" / scene / "left" / f"{name}.png", picture(view.image))
            final = final_pass(view.image, future, view.top / len(layers), fog, rng, studio.final)
            write_image(root / "frames_finalpass" / scene / "left" / f"{name}.png", picture(final))
            for folder, prefix, flow in (("into_future", "IntoFuture", future), ("into_past", "IntoPast", past)):
                path = root / "optical_flow" / scene / folder / "left" / f"OpticalFlow{prefix}_{name}_L.pfm"
                planes = np.concatenate([flow, np.zeros_like(flow[:1])])  # the third channel is not used
                write_pfm(path, torch.from_numpy(planes))
            studio.advance()


def write_sintel(root: Path, config: TrainingSetsConfig, studio: Studio, pictures: tuple[np.ndarray, ...]) -> None:
    """Writes clean and final passes with flow."""
    for index in range(config.sintel_scenes):
        rng = studio.random(SINTEL, index)
        layers = random_scene(rng, pictures, studio.size, studio.scene)
        fog = random_fog(rng, studio.final)
        for frame, time in enumerate(times(config.frames)):
            view = render(layers, time, studio.size)
            flow, _ = exact_flow(layers, view, time + 1)
            name = Path(f"scene_{index + 1}") / f"frame_{frame + 1:04d}"
            write_image(root / "clean" / f"{name}.png", picture(view.image))
            final = final_pass(view.image, flow, view.top / len(layers), fog, rng, studio.final)
            write_image(root / "final" / f"{name}.png", picture(final))
            if frame + 1 < config.frames:
                write_flo(root / "flow" / f"{name}.flo", torch.from_numpy(flow))
            studio.advance()


def write_kitti_pairs(root: Path, config: TrainingSetsConfig, studio: Studio, pictures: tuple[np.ndarray, ...]) -> None:
    """Writes pairs with flow at random pixels."""
    for index in range(config.kitti_pairs):
        rng = studio.random(KITTI, index)
        layers = random_scene(rng, pictures, studio.size, studio.scene)
        first, second = (render(layers, time, studio.size) for time in (-0.5, 0.5))
        write_image(root / "image_2" / f"{index:06d}_10.png", picture(first.image))
        write_image(root / "image_2" / f"{index:06d}_11.png", picture(second.image))
        write_sparse(root / "flow_occ" / f"{index:06d}_10.png", layers, first, 0.5, rng, studio)
        studio.advance()


def write_hd1k(root: Path, config: TrainingSetsConfig, studio: Studio, pictures: tuple[np.ndarray, ...]) -> None:
    """Writes sequences with flow at random pixels."""
    for index in range(config.hd1k_sequences):
        rng = studio.random(HD1K, index)
        layers = random_scene(rng, pictures, studio.size, studio.scene)
        for frame, time in enumerate(times(config.frames)):
            view = render(layers, time, studio.size)
            name = f"{index:06d}_{frame:04d}.png"
            write_image(root / "hd1k_input" / "image_2" / name, picture(view.image))
            if frame + 1 < config.frames:
                write_sparse(root / "hd1k_flow_gt" / "flow_occ" / name, layers, view, time + 1, rng, studio)
            studio.advance()


def write_sparse(
    path: Path, layers: tuple[Layer, ...], view: View, time: float, rng: np.random.Generator, studio: Studio
) -> None:
    """Writes flow from a view to the frame at `time`, at random pixels."""
    flow, _ = exact_flow(layers, view, time)
    known = rng.uniform(size=studio.size) < studio.density
    write_kitti(path, torch.from_numpy(flow), torch.from_numpy(known))


def times(frames: int) -> list[float]:
    """Times of the frames of a scene, centred on time 0, when objects are where they were placed."""
    return [frame - (frames - 1) / 2 for frame in range(frames)]


def picture(pixels: np.ndarray) -> Tensor:
    """uint8 (h, w, 3) as a tensor (3, h, w)."""
    return rearrange(torch.from_numpy(pixels), "h w c -> c h w")
