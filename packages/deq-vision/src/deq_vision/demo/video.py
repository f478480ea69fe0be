"""The demo on video: each frame's solve starts at the last one's state, with one frame in memory at a time."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.config import ConfigError
from deq_core.experiment.errors import FileFormatError, NonFiniteError
from deq_core.experiment.files import output_directory
from deq_core.experiment.media import video, video_file
from deq_core.experiment.media.video import Frames, VideoError
from deq_core.experiment.outputs.uninterrupted import uninterrupted
from deq_core.experiment.progress import Progress
from deq_vision.demo.overlay import with_caption
from deq_vision.demo.raw import Raw
from deq_vision.demo.viewer import LEAST, Viewer
from deq_vision.finite import require_finite
from deq_vision.models.mdeq import MDEQ
from deq_vision.streaming.evaluate import synchronise
from deq_vision.streaming.stream import StreamDEQ, StreamOutput

CUT = 1.8
"""Default of `StreamConfig.cut`. A start from zeros has a relative residual of 1, and one from another scene hardly
more, so if 0.5 is usual, a factor above 2 is never reached. A false cut only costs one solve from zeros."""


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """Settings of the solves of a video's frames.

    Raises:
        ConfigError: a number is out of range.
    """

    steps: int = 2
    """Maximum number of evaluations of f per frame; the model's own for the first frame and after a scene cut."""
    tolerance: float | None = None
    """Residual, as measured by the model, at which a solve ends early; None uses all `steps`."""
    warm: bool = True
    """Whether a frame starts from the last one's state."""
    cut: float = CUT
    """Ratio of the first evaluation's residual to the usual one that marks a scene cut."""
    fps: float | None = None
    """Frame rate of the video written; None for that of the source, or 25."""
    frames: int | None = None
    """Maximum number of frames to read; None for all."""

    def __post_init__(self) -> None:
        for name in ("steps", "frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected at least 1, got {value}")
        for name in ("tolerance", "fps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: expected a number above 0, got {value}")
        if not self.cut > 1:
            raise ConfigError(f"cut: expected a number above 1, got {self.cut}")

    def stream(self, model: MDEQ) -> StreamDEQ:
        """The model with these settings."""
        own = model.equilibrium.eval_stop or model.equilibrium.stop
        stop = deq.Stop(max_steps=self.steps, tol=self.tolerance, relative=own.relative, norm=own.norm)
        if not self.warm:
            return StreamDEQ(model, stop, warm=False)
        return StreamDEQ(model, stop, first=own, cut=self.cut)


@dataclass(frozen=True)
class Seen:
    """A frame with the output of the network."""

    frame: Tensor
    """uint8 RGB (3, h, w)."""
    images: Tensor
    """Input of the network, (1, 3, H, W)."""
    output: StreamOutput
    seconds: float
    """Time from the network's input to its logits."""


def run_video(stream: StreamDEQ, viewer: Viewer, frames: Iterable[Tensor], *, name: str = "frames") -> Iterator[Seen]:
    """Yields the network's output for each frame; frames are read on demand.

    Raises:
        NonFiniteError: an output is not finite; the message has `name` and the number of the frame, from 1.
    """
    device = next(viewer.model.parameters()).device
    for number, frame in enumerate(frames, start=1):
        images = viewer.prepare(frame)
        synchronise(device)
        began = time.perf_counter()
        output = stream(images)
        synchronise(device)
        seconds = time.perf_counter() - began
        assert output.logits is not None  # a model with a label space has a head
        require_finite(output.logits, output.residual, [f"{name}, frame {number}"])
        yield Seen(frame, images, output, seconds)


def write_stream(
    viewer: Viewer, frames: Frames, config: StreamConfig, *, out: Path, raw: Path | None = None
) -> dict[str, float]:
    """Writes the video `out`: frames with results, and below them speed, residual and evaluations.

    `out` appears, complete, at the end, and so does the folder `raw`, if given, with the files of `Raw`. If the source
    has fewer frames than it declares, a message is printed to stderr.

    Returns:
        Number of frames, number of cold starts, frames per second of the network, mean evaluations and residual.

    Raises:
        FileFormatError: a frame cannot be read, or is too small; `out` has the frames before it, if any.
        NonFiniteError: an output for a frame is not finite; likewise.
        OutputError: `out` cannot be written.
        KeyboardInterrupt: Ctrl-C or SIGTERM. `out` has the frames until then, if any.
    """
    means = Means()
    total = frames.count if config.frames is None else min(frames.count or config.frames, config.frames)
    read = large_enough(islice(frames, config.frames), frames.name)
    seen = run_video(config.stream(viewer.model), viewer, read, name=frames.name)
    with (
        nullcontext() if raw is None else output_directory(raw) as folder,
        video_file.writer(out, config.fps or frames.fps or video_file.DEFAULT_FPS) as add,
        Progress(total, unit="frame", title=Path(frames.name).name, seconds=10.0) as progress,
    ):
        files = None if folder is None else Raw(folder, viewer)
        ended: KeyboardInterrupt | FileFormatError | NonFiniteError | None = None
        try:
            for one in seen:
                with uninterrupted():
                    means.add(one)
                    if files is not None:
                        assert one.output.logits is not None  # a model with a label space has a head
                        files.add(f"{means.count:06d}", means.count, one.output.logits, one.images, one.frame)
                    add(picture(viewer, one, means.fps))
                    progress.update(means.count, {"fps": means.fps})
        except (KeyboardInterrupt, FileFormatError, NonFiniteError) as end:
            if means.count == 0:
                raise
            ended = end
    if isinstance(ended, FileFormatError | NonFiniteError):
        raise type(ended)(f"{ended}; the {means.count} frames before it are in {out}") from ended
    if ended is not None:
        print(f"{frames.name}: ended early; its first {means.count} frames are in {out}", file=sys.stderr)
        raise ended
    video.tell_of_fewer(frames.name, total, means.count)
    return means.values()


def large_enough(frames: Iterable[Tensor], name: str) -> Iterator[Tensor]:
    """Yields the frames; raises VideoError for one less than 16 pixels high or wide."""
    for frame in frames:
        if min(frame.shape[1:]) < LEAST:
            raise VideoError(f"{name}: expected frames of at least {LEAST} pixels a side, got {video.size_of(frame)}")
        yield frame


def picture(viewer: Viewer, seen: Seen, fps: float) -> Tensor:
    """The frame with results, legend and caption, uint8 (3, h, w)."""
    output = seen.output
    assert output.logits is not None  # a model with a label space has a head
    caption = f"{fps:.1f} fps   residual {output.residual.item():.1e}   evaluations {output.evaluations.item()}"
    if output.cold.item():
        caption += "   cold"
    return with_caption(viewer.picture(output.logits, seen.images, seen.frame), caption)


class Means:
    """Running means over a video."""

    def __init__(self) -> None:
        self.count = 0
        self.cold = 0
        self.evaluations = 0
        self.residual = 0.0
        self.seconds = 0.0
        self.recent: float | None = None

    def add(self, seen: Seen) -> None:
        """Adds a frame."""
        self.count += 1
        self.cold += int(seen.output.cold)
        self.evaluations += int(seen.output.evaluations)
        self.residual += float(seen.output.residual)
        self.seconds += seen.seconds
        self.recent = seen.seconds if self.recent is None else 0.9 * self.recent + 0.1 * seen.seconds

    @property
    def fps(self) -> float:
        """Frames per second of the network over the last few frames."""
        return 1 / max(self.recent or 0.0, 1e-9)

    def values(self) -> dict[str, float]:
        """Means over all frames, and the numbers of frames and cold starts."""
        return {
            "frames": self.count,
            "cold": self.cold,
            "fps": self.count / max(self.seconds, 1e-9),
            "evaluations": self.evaluations / max(1, self.count),
            "residual": self.residual / max(1, self.count),
        }


def chosen_threads(count: int | None) -> None:
    """Sets torch's number of CPU threads; None leaves it to torch."""
    if count is not None:
        if count < 1:
            raise ConfigError(f"threads: expected at least 1, got {count}")
        torch.set_num_threads(count)
