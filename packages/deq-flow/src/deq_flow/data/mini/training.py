"""Miniature FlyingThings3D, Sintel, KITTI and HD1K for training, from other photographs than those for evaluation."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from deq_core.experiment.data import photographs
from deq_core.experiment.data.images import write_image
from deq_flow.data.io import write_kitti, write_pfm
from deq_flow.data.mini.scenes import exact_flow, render
from deq_flow.data.mini.studio import Photographs, Studio, picture, times, write_film, write_kitti_pair

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


def write_training_sets(root: Path, config: TrainingSetsConfig, studio: Studio) -> None:
    """Writes FlyingThings3D, Sintel, KITTI and HD1K below `root`, in their released layouts."""
    pictures = photographs.load_all(TRAINED_ON)
    write_things(root / "FlyingThings3D", config, studio, pictures)
    for index in range(config.sintel_scenes):
        rng = studio.random(SINTEL, index)
        layers, folder = studio.layers(rng, pictures), root / "Sintel" / "training"
        write_film(folder, f"scene_{index + 1}", layers, times(config.frames), studio, final=rng, masks=False)
    for index in range(config.kitti_pairs):
        rng = studio.random(KITTI, index)
        write_kitti_pair(root / "KITTI" / "training", index, rng, pictures, studio, masks=False)
    write_hd1k(root / "HD1k", config, studio, pictures)


def write_things(root: Path, config: TrainingSetsConfig, studio: Studio, pictures: Photographs) -> None:
    """Writes both render passes of the left camera, and flow forwards and backwards in time."""
    for index in range(config.things_scenes):
        rng = studio.random(THINGS, index)
        layers, camera = studio.layers(rng, pictures), studio.camera(rng)
        scene = Path("TRAIN") / "A" / f"{index:04d}"
        for frame, time in enumerate(times(config.frames)[:-1], start=6):  # the first frame of the release is 6
            view = render(layers, time, studio.size)
            future, past = (exact_flow(layers, view, other)[0] for other in (time + 1, time - 1))
            name = f"{frame:04d}"
            write_image(root / "frames_cleanpass" / scene / "left" / f"{name}.png", picture(view.image))
            final = camera(view, future, len(layers))
            write_image(root / "frames_finalpass" / scene / "left" / f"{name}.png", final)
            for folder, prefix, flow in (("into_future", "IntoFuture", future), ("into_past", "IntoPast", past)):
                path = root / "optical_flow" / scene / folder / "left" / f"OpticalFlow{prefix}_{name}_L.pfm"
                planes = np.concatenate([flow, np.zeros_like(flow[:1])])  # the third channel is not used
                write_pfm(path, torch.from_numpy(planes))
            studio.advance()


def write_hd1k(root: Path, config: TrainingSetsConfig, studio: Studio, pictures: Photographs) -> None:
    """Writes sequences with flow at random pixels."""
    for index in range(config.hd1k_sequences):
        rng = studio.random(HD1K, index)
        layers = studio.layers(rng, pictures)
        for frame, (time, later) in enumerate(pairwise(times(config.frames))):
            view = render(layers, time, studio.size)
            name = f"{index:06d}_{frame:04d}.png"
            write_image(root / "hd1k_input" / "image_2" / name, picture(view.image))
            if frame + 1 < config.frames:
                flow, known = torch.from_numpy(exact_flow(layers, view, later)[0]), torch.from_numpy(studio.known(rng))
                write_kitti(root / "hd1k_flow_gt" / "flow_occ" / name, flow, known)
            studio.advance()
