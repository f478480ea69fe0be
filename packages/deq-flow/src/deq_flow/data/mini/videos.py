"""Miniature videos, longer than the scenes of Sintel-mini, to start each frame from the one before."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from deq_core.experiment.data import photographs
from deq_core.experiment.data.images import write_image, write_mask
from deq_flow.data.io import write_flo
from deq_flow.data.mini.scenes import exact_flow, random_scene, render
from deq_flow.data.mini.training import Studio, picture

# The second number of every item's seed, after those of the other miniature sets.
VIDEO, VALIDATION = 200, 201


@dataclass(frozen=True, kw_only=True)
class VideosConfig:
    """How many videos, how long, and how what is in them moves.

    A scene's own motion would leave the frame within some ten frames. So it swings: at frame k it is at the time
    travel * sin(2 pi k / period) of its motion, and keeps both its speed and what it shows.
    """

    videos: int = 2
    """Whose background moves as well, as before a camera in motion."""
    still: int = 0
    """Further ones whose background does not, as before a camera on a tripod."""
    frames: int = 30
    travel: float = 4.0
    """How far to each side the scene goes, in frames of its motion."""
    period: float = 30.0
    """Frames from one swing to the next."""

    def __post_init__(self) -> None:
        if min(self.videos, self.still) < 0 or min(self.count, self.frames - 1, self.travel, self.period) <= 0:
            raise ValueError(
                "videos: expected at least 1 video, still or not, of at least 2 frames, and travel and period above 0, "
                f"got {self}"
            )

    @property
    def count(self) -> int:
        """Videos in all."""
        return self.videos + self.still

    @property
    def views(self) -> int:
        """Frames in all, for progress."""
        return self.count * self.frames

    def time(self, frame: int) -> float:
        """Where in its motion the scene is at a frame, counted from 0."""
        return self.travel * float(np.sin(2 * np.pi * frame / self.period))


def write_videos(root: Path, config: VideosConfig, studio: Studio, *, validation: bool = False) -> None:
    """Writes the clean pass of Sintel/training below `root`, with flow and occlusions.

    Args:
        root: folder that holds Sintel.
        config: how many videos, how long.
        studio: what they share with the other miniature sets.
        validation: from the photographs that settings are chosen on, not from those of tests.
    """
    folder = root / "Sintel" / "training"
    pictures = photographs.load_all(photographs.VALIDATION if validation else photographs.TEST)
    kind = VALIDATION if validation else VIDEO
    for index in range(config.count):
        layers = random_scene(studio.random(kind, index), pictures, studio.size, studio.scene)
        if index >= config.videos:
            layers = (replace(layers[0], motion=layers[0].motion.at_rest()), *layers[1:])
        for frame in range(config.frames):
            view = render(layers, config.time(frame), studio.size)
            name = Path(f"{'still' if index >= config.videos else 'video'}_{index + 1}") / f"frame_{frame + 1:04d}"
            write_image(folder / "clean" / f"{name}.png", picture(view.image))
            if frame + 1 < config.frames:
                flow, occluded = exact_flow(layers, view, config.time(frame + 1))
                write_flo(folder / "flow" / f"{name}.flo", torch.from_numpy(flow))
                write_mask(folder / "occlusions" / f"{name}.png", torch.from_numpy(occluded))
            studio.advance()
