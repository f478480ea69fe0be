"""Miniature videos, longer than the scenes of Sintel-mini, to evaluate starts from the frame before."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deq_core.experiment.data import photographs
from deq_flow.data.mini.studio import Studio, write_film

# The second number of each item's seed, distinct from those of the other miniature sets.
VIDEO, VALIDATION = 200, 201


@dataclass(frozen=True, kw_only=True)
class VideosConfig:
    """Number and length of the videos, and their motion.

    Constant motion would leave the frame after about ten frames. So the scene swings: at frame k it is at the time
    travel * sin(2 pi k / period) of its motion. This keeps its speed, and its objects in the frame.
    """

    videos: int = 2
    """Number of videos with a moving background, as with a camera in motion."""
    still: int = 0
    """Number of further videos with a still background, as with a camera on a tripod."""
    frames: int = 30
    travel: float = 4.0
    """Amplitude of the swing, in frames of the scene's motion."""
    period: float = 30.0
    """Period of the swing, in frames."""

    def __post_init__(self) -> None:
        if min(self.videos, self.still) < 0 or min(self.count, self.frames - 1, self.travel, self.period) <= 0:
            raise ValueError(
                "videos: expected at least 1 video, still or not, of at least 2 frames, and travel and period above 0, "
                f"got {self}"
            )

    @property
    def count(self) -> int:
        """Total number of videos."""
        return self.videos + self.still

    @property
    def views(self) -> int:
        """Total number of frames, for progress."""
        return self.count * self.frames

    def time(self, frame: int) -> float:
        """The time of the scene's motion at a frame, counted from 0."""
        return self.travel * float(np.sin(2 * np.pi * frame / self.period))


def write_videos(root: Path, config: VideosConfig, studio: Studio, *, validation: bool = False) -> None:
    """Writes the clean pass of Sintel/training below `root`, with flow and occlusions.

    Args:
        root: folder that contains Sintel.
        config: number, length and motion of the videos.
        studio: settings shared with the other miniature sets.
        validation: whether the photographs are those for validation rather than those for tests.
    """
    folder = root / "Sintel" / "training"
    pictures = photographs.load_all(photographs.VALIDATION if validation else photographs.TEST)
    kind = VALIDATION if validation else VIDEO
    times = [config.time(frame) for frame in range(config.frames + 1)]
    for index in range(config.count):
        layers, still = studio.layers(studio.random(kind, index), pictures), index >= config.videos
        if still:
            layers = (replace(layers[0], motion=layers[0].motion.at_rest()), *layers[1:])
        write_film(folder, f"{'still' if still else 'video'}_{index + 1}", layers, times, studio)
