"""A video with what a network sees in it, each frame's solve begun at the last one's: one frame in memory at a time."""

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
from deq_core.experiment.progress import Progress
from deq_core.experiment.uninterrupted import uninterrupted
from deq_vision.demo.overlay import with_caption
from deq_vision.demo.raw import Raw
from deq_vision.demo.viewer import LEAST, Viewer
from deq_vision.finite import require_finite
from deq_vision.models.mdeq import MDEQ
from deq_vision.streaming.evaluate import synchronise
from deq_vision.streaming.stream import StreamDEQ, StreamOutput

CUT = 1.8
"""A start at zeros has a relative residual of 1, and a start in another scene hardly more: where a half is usual, a
factor above 2 is never reached. A cut that is none costs one solve from zeros and leaves the frame no worse."""


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """How the frames of a video are solved.

    Raises:
        ConfigError: a number out of range.
    """

    steps: int = 2
    """Evaluations of f that a frame gets at most. The first frame, and one behind a scene cut, get the model's own."""
    tolerance: float | None = None
    """Residual, as the model measures it, at which a frame is done before that; None spends all `steps`."""
    warm: bool = True
    """Whether a frame begins at the last one's state."""
    cut: float = CUT
    """How many times the usual residual of a first evaluation makes a scene cut."""
    fps: float | None = None
    """Of the video written; None is that of the source, or 25."""
    frames: int | None = None
    """Frames read at most; None is all."""

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
        """The model as it is run."""
        own = model.equilibrium.eval_stop or model.equilibrium.stop
        stop = deq.Stop(max_steps=self.steps, tol=self.tolerance, relative=own.relative, norm=own.norm)
        if not self.warm:
            return StreamDEQ(model, stop, warm=False)
        return StreamDEQ(model, stop, first=own, cut=self.cut)


@dataclass(frozen=True)
class Seen:
    """A frame and what the network gave for it."""

    frame: Tensor
    """uint8 RGB (3, h, w)."""
    images: Tensor
    """What the network saw of it, (1, 3, H, W)."""
    output: StreamOutput
    seconds: float
    """From what the network saw to its logits."""


def run_video(stream: StreamDEQ, viewer: Viewer, frames: Iterable[Tensor], *, name: str = "frames") -> Iterator[Seen]:
    """What the network gives for each frame, read one by one as they are asked for.

    Raises:
        NonFiniteError: it is not finite; the message has the `name` of the frames, and which of them, from 1.
    """
    device = next(viewer.model.parameters()).device
    for number, frame in enumerate(frames, start=1):
        images = viewer.prepare(frame)
        synchronise(device)
        began = time.perf_counter()
        output = stream(images)
        synchronise(device)
        seconds = time.perf_counter() - began
        assert output.logits is not None  # a label space is that of a head
        require_finite(output.logits, output.residual, [f"{name}, frame {number}"])
        yield Seen(frame, images, output, seconds)


def write_stream(
    viewer: Viewer, frames: Frames, config: StreamConfig, *, out: Path, raw: Path | None = None
) -> dict[str, float]:
    """Writes the video `out`: the frames with what the network sees, its speed, residual and evaluations below.

    `out` appears whole when the last frame is done, and not at all after an error; so does the folder `raw`, where one
    is named, with the files of `Raw`. Fewer frames than the source announces are said on stderr.

    Returns:
        frames; how many began at zeros; frames per second of the network, mean evaluations and residual.

    Raises:
        FileFormatError: the frames cannot be read, or are too small; `out` has the frames before it.
        NonFiniteError: what the network gives for a frame is not finite; likewise.
        OutputError: `out` cannot be written.
        KeyboardInterrupt: Ctrl-C or SIGTERM. `out` has the frames until then.
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
                        assert one.output.logits is not None  # a label space is that of a head
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
    """The frames, which must be at least 16 pixels high and wide."""
    for frame in frames:
        if min(frame.shape[1:]) < LEAST:
            raise VideoError(f"{name}: expected frames of at least {LEAST} pixels a side, got {video.size_of(frame)}")
        yield frame


def picture(viewer: Viewer, seen: Seen, fps: float) -> Tensor:
    """uint8 (3, h, w): the frame as the network sees it, the legend, and a caption."""
    output = seen.output
    assert output.logits is not None  # a label space is that of a head
    caption = f"{fps:.1f} fps   residual {output.residual.item():.1e}   evaluations {output.evaluations.item()}"
    if output.cold.item():
        caption += "   cold"
    return with_caption(viewer.picture(output.logits, seen.images, seen.frame), caption)


class Means:
    """Means over a video, however long."""

    def __init__(self) -> None:
        self.count = 0
        self.cold = 0
        self.evaluations = 0
        self.residual = 0.0
        self.seconds = 0.0
        self.recent: float | None = None

    def add(self, seen: Seen) -> None:
        """Counts one more frame."""
        self.count += 1
        self.cold += int(seen.output.cold)
        self.evaluations += int(seen.output.evaluations)
        self.residual += float(seen.output.residual)
        self.seconds += seen.seconds
        self.recent = seen.seconds if self.recent is None else 0.9 * self.recent + 0.1 * seen.seconds

    @property
    def fps(self) -> float:
        """Frames per second of the network, over the last few."""
        return 1 / max(self.recent or 0.0, 1e-9)

    def values(self) -> dict[str, float]:
        """Of all frames."""
        return {
            "frames": self.count,
            "cold": self.cold,
            "fps": self.count / max(self.seconds, 1e-9),
            "evaluations": self.evaluations / max(1, self.count),
            "residual": self.residual / max(1, self.count),
        }


def chosen_threads(count: int | None) -> None:
    """Lets torch use so many threads of the CPU; None leaves that to torch."""
    if count is not None:
        if count < 1:
            raise ConfigError(f"threads: expected at least 1, got {count}")
        torch.set_num_threads(count)
