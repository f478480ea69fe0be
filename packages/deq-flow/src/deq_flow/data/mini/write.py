"""Miniature FlyingChairs, Sintel and KITTI made from photographs, in the file formats of the real sets.

Layers cut from photographs move by exactly known smooth maps, so flow and occlusions are exact too. There is also a
real stereo pair with measured disparity. The same configuration always gives the same bytes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from einops import rearrange
from tqdm import tqdm

from deq_core.experiment.config import Kind
from deq_core.experiment.data import photographs
from deq_core.experiment.data.images import one_thread, write_image
from deq_core.experiment.data.manifest import write_manifest
from deq_core.experiment.data.registry import ReleasedSets
from deq_core.experiment.files import output_directory, write_text
from deq_flow.data.io import write_flo, write_kitti
from deq_flow.data.mini.final_pass import FinalPassConfig
from deq_flow.data.mini.scenes import SceneConfig
from deq_flow.data.mini.studio import Studio, picture, times, write_film, write_kitti_pair
from deq_flow.data.mini.training import TRAINED_ON, TrainingSetsConfig, write_training_sets
from deq_flow.data.mini.videos import VideosConfig, write_videos

# The second number of each item's seed (seed, set, index).
CHAIRS_TRAIN, CHAIRS_VAL, SINTEL, KITTI = range(4)


@dataclass(frozen=True, kw_only=True)
class MiniConfig:
    """Configuration of the miniature sets."""

    seed: int = 0
    height: int = 96
    width: int = 128
    train_pairs: int = 400
    """Number of pairs of FlyingChairs for training, from separate photographs."""
    val_pairs: int = 40
    """Number of pairs of FlyingChairs for validation, from separate photographs."""
    scenes: int = 6
    """Number of scenes of Sintel."""
    frames: int = 8
    """Number of frames of each scene."""
    scene_pace: float = 0.7
    """Speed in Sintel relative to that in FlyingChairs and KITTI."""
    kitti_pairs: int = 24
    kitti_density: float = 0.3
    """Share of pixels with known flow in KITTI."""
    motorcycle_scale: int = 4
    """Factor by which the stereo pair (500 x 741) is downscaled."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    final: FinalPassConfig = field(default_factory=FinalPassConfig)
    training: TrainingSetsConfig = field(default_factory=TrainingSetsConfig)
    """Training sets of the later stages of a curriculum, in the folder Training."""
    videos: VideosConfig = field(default_factory=VideosConfig)
    """Longer videos for evaluation, in the folder Video."""
    validation_videos: VideosConfig = field(default_factory=VideosConfig)
    """Videos made of the validation photographs, to choose settings on, in the folder ValidationVideo."""
    kind: Literal["mini"] = field(default="mini", repr=False)

    def __post_init__(self) -> None:
        least = {
            "seed": 0,
            "height": 16,
            "width": 16,
            "train_pairs": 1,
            "val_pairs": 1,
            "scenes": 1,
            "frames": 2,
            "kitti_pairs": 1,
            "motorcycle_scale": 1,
        }
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} must be at least {bound}, got {getattr(self, name)}")
        if not 0 < self.kitti_density <= 1:
            raise ValueError(f"kitti_density must be in (0, 1], got {self.kitti_density}")
        if self.scene_pace <= 0:
            raise ValueError(f"scene_pace must be positive, got {self.scene_pace}")

    @property
    def size(self) -> tuple[int, int]:
        """(h, w), pixels."""
        return self.height, self.width


Data = Annotated[MiniConfig | ReleasedSets, Kind]
"""The section `data` of params.yaml: these sets, or the published ones."""


def write_mini(root: Path, config: MiniConfig) -> None:
    """Writes FlyingChairs_release, Sintel, KITTI, Motorcycle/KITTI, Training and the folders of videos to `root`.

    `root` is created, or replaced, once everything is written. The manifest lists the size and sha256 of each file.

    Raises:
        OutputError: `root` cannot be written.
    """
    with one_thread(), output_directory(root) as partial:
        total = config.train_pairs + config.val_pairs + config.scenes * config.frames + config.kitti_pairs + 1
        total += config.training.views + config.videos.views + config.validation_videos.views
        with tqdm(total=total, desc="mini data", unit="pair", disable=None) as progress:
            studio = Studio(config.seed, config.size, config.scene, config.final, config.kitti_density, progress.update)
            write_chairs(partial, config, studio)
            write_evaluated(partial, config, studio)
            write_motorcycle(partial / "Motorcycle", config.motorcycle_scale)
            progress.update()
            write_training_sets(partial / "Training", config.training, studio)
            write_videos(partial / "Video", config.videos, studio)
            write_videos(partial / "ValidationVideo", config.validation_videos, studio, validation=True)
        write_manifest(partial, config)


def write_chairs(root: Path, config: MiniConfig, studio: Studio) -> None:
    """Writes FlyingChairs_release and chairs_split.txt: training pairs first, then validation pairs."""
    folder = root / "FlyingChairs_release" / "data"
    marks = []
    for mark, kind, names, count in (
        ("1", CHAIRS_TRAIN, TRAINED_ON, config.train_pairs),
        ("2", CHAIRS_VAL, photographs.VALIDATION, config.val_pairs),
    ):
        pictures = photographs.load_all(names)
        for index in range(count):
            marks.append(mark)
            first, second, flow, _ = studio.pair(studio.random(kind, index), pictures)
            write_image(folder / f"{len(marks):05d}_img1.ppm", picture(first.image))
            write_image(folder / f"{len(marks):05d}_img2.ppm", picture(second.image))
            write_flo(folder / f"{len(marks):05d}_flow.flo", torch.from_numpy(flow))
            studio.advance()
    write_text(root / "chairs_split.txt", "\n".join(marks) + "\n")


def write_evaluated(root: Path, config: MiniConfig, studio: Studio) -> None:
    """Writes Sintel/training with the clean and final passes, flow and occlusions, and KITTI/training."""
    pictures = photographs.load_all(photographs.TEST)
    for index in range(config.scenes):
        rng = studio.random(SINTEL, index)
        layers = studio.layers(rng, pictures, pace=config.scene_pace)
        folder = root / "Sintel" / "training"
        write_film(folder, f"scene_{index + 1}", layers, times(config.frames), studio, final=rng)
    for index in range(config.kitti_pairs):
        write_kitti_pair(root / "KITTI" / "training", index, studio.random(KITTI, index), pictures, studio)


def write_motorcycle(root: Path, scale: int) -> None:
    """Writes the stereo pair, downscaled by `scale`, as a KITTI set of one pair with flow (-disparity, 0) to `root`.

    Frames are averaged over blocks of scale x scale pixels. The disparity of a block is the median over its known
    pixels, divided by `scale`; it is valid if at least half of the pixels are known.
    """
    left, right, disparity = photographs.motorcycle()
    folder = root / "KITTI" / "training"
    for name, image in (("000000_10.png", left), ("000000_11.png", right)):
        mean = blocks(image.astype(np.float64), scale).mean(axis=2)
        write_image(folder / "image_2" / name, picture(np.rint(mean).astype(np.uint8)))
    ordered = np.sort(blocks(disparity, scale), axis=2)  # unknown pixels are infinite, and come last
    known = np.isfinite(ordered).sum(axis=2)
    valid = 2 * known >= scale * scale
    median = np.take_along_axis(ordered, np.maximum(known - 1, 0)[:, :, None] // 2, axis=2)[:, :, 0]
    reduced = np.where(valid, median / scale, 0)
    flow = np.stack([-reduced, np.zeros_like(reduced)]).astype(np.float32)
    write_kitti(folder / "flow_occ" / "000000_10.png", torch.from_numpy(flow), torch.from_numpy(valid))


def blocks(image: np.ndarray, scale: int) -> np.ndarray:
    """(h, w, ...) as (h // scale, w // scale, scale**2, ...): the pixels of each block; incomplete ones are cut off."""
    height, width = image.shape[0] // scale, image.shape[1] // scale
    cut = image[: height * scale, : width * scale]
    return rearrange(cut, "(h down) (w across) ... -> h w (down across) ...", down=scale, across=scale)
