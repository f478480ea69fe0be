"""The demo: a source of frames, a network, and a folder of products."""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from torch import Tensor

from deq_core.experiment.config import ConfigError, plain
from deq_core.experiment.config.layer import PartConfig, StopConfig
from deq_core.experiment.errors import FileFormatError, NonFiniteError
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.media import video, video_file
from deq_core.experiment.media.video import Frames, VideoError
from deq_core.experiment.outputs.uninterrupted import uninterrupted
from deq_core.experiment.progress import Progress
from deq_core.experiment.rescue import files, rescued
from deq_flow.demo.follow import LEAST, Estimate, follow
from deq_flow.demo.outputs import TWO_WAYS, Add, Product, outputs
from deq_flow.demo.summary import Summary, listed
from deq_flow.inference import Estimator
from deq_flow.inference_params import Inference, Start
from deq_flow.networks import Network

MOST = 32766  # pixels; greatest side that OpenCV warps
SUMMARY = "demo.json"
"""File with the settings and results of the demo."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Options of the demo.

    Raises:
        ConfigError: a number is out of range.
    """

    products: tuple[Product, ...] = ("colour", "side-by-side")
    steps: int = 24
    """Maximum number of iterations."""
    tolerance: float = 0.05
    """The solve ends when an evaluation changes the hidden state by at most this share of its norm, and the flow by at
    most this share of a cell. Unrolled networks use all `steps`."""
    start: Start = "cold"
    """Start of a pair of frames; see `follow`."""
    side: int | None = None
    """Longer side to which larger frames are downscaled for the network, pixels; None keeps their size."""
    max_speed: float | None = None
    """Speed of full colour, pixels; None follows the video."""
    fps: float | None = None
    """Frame rate of the videos written; None is that of the source, or 25."""
    container: str = ".mp4"
    """Suffix of the videos written."""
    frames: int | None = None
    """Maximum number of frames to read; None is all."""

    def __post_init__(self) -> None:
        if not self.products:
            raise ConfigError("save: expected at least one product")
        for name, least in (("steps", 1), ("frames", 2), ("side", LEAST)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}: expected at least {least}, got {value}")
        for name in ("tolerance", "max_speed"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name}: expected a number above 0, got {value}")
        if self.fps is not None and not video.SLOWEST <= self.fps <= video.FASTEST:
            raise ConfigError(f"fps: expected a number from {video.SLOWEST} to {video.FASTEST:g}, got {self.fps}")

    def inference(self) -> Inference:
        """The options of inference."""
        parts = PartConfig(tol=self.tolerance), PartConfig(tol=self.tolerance, relative=False, norm="rms")
        return Inference(stop=StopConfig(max_steps=self.steps, parts=parts), steps=self.steps)


def run(network: Network, frames: Frames, config: DemoConfig, *, out: Path, name: str = "") -> dict[str, float]:
    """Writes the products of the frames to the folder `out`, and demo.json: settings, means and a row for each flow.

    `out` is created complete after the last frame, and not after an error. Warnings of flows that are not to be
    trusted, and of fewer frames than the source announces, go to stderr.

    Args:
        network: network in evaluation mode, on its device.
        frames: source of at least two frames.
        config: options.
        out: new or empty folder, or the unchanged output of an earlier demo, which is replaced.
        name: name of the network for demo.json.

    Returns:
        Numbers of estimates, of cold starts and of warnings, frames per second, mean iterations (with several scales,
        in units of the finest), mean residual of equilibrium networks (at the finest scale), and whether all frames
        were processed. They are also in demo.json.

    Raises:
        FileFormatError: there are fewer than two frames, or one cannot be read, or is too small or too large. The
            output for earlier frames is then in `out`-partial, and `out` is unchanged.
        NonFiniteError: some flows are not finite; the message names the first ones. All others are in `out`, if any.
        OutputError: `out` cannot be written, or has other contents.
        KeyboardInterrupt: Ctrl-C or SIGTERM. The output for the frames so far is complete, and kept in `out`.
    """
    total = frames.count if config.frames is None else min(frames.count or config.frames, config.frames)
    read = large_enough(islice(frames, config.frames), frames.name)
    head = list(islice(read, 3))  # because the announced number of frames may be wrong
    single = len(head) == 2
    if len(head) < 2:
        raise VideoError(
            f"{frames.name}: expected at least two frames, got {len(head)}: motion is between two; name a second image"
        )
    estimates = follow(
        Estimator(network, config.inference()),
        chain(iter(head), read),  # does not keep the frames that were read
        start=config.start,
        side=config.side,
        backward=not TWO_WAYS.isdisjoint(config.products),
    )
    del head
    summary = Summary()
    with output_directory(out) as partial:
        with outputs(
            partial,
            config.products,
            fps=config.fps or frames.fps or video_file.DEFAULT_FPS,
            container=config.container,
            single=single,
            max_speed=config.max_speed,
        ) as add:
            ended = consume(
                estimates, add, summary, total=None if total is None else total - 1, title=Path(frames.name).name
            )
        lost = summary.marked("not finite")
        if len(lost) == summary.count:
            raise not_finite(frames.name, lost, "no other flow was found")
        settings = {"source": frames.name, "announced": frames.count, "network": name}
        settings["config"] = plain(config)
        settings["scales"] = None if network.scales is None else plain(network.scales)
        values = {**summary.values(), "complete": float(ended is None)}
        write_json(partial / SUMMARY, {**settings, "residual": None, **values, "frames": summary.rows})
        if isinstance(ended, FileFormatError):
            with rescued(out, files(partial)):
                raise ended
    if ended is None:
        video.tell_of_fewer(frames.name, total, summary.count + 1)
    for line in summary.warnings(config.side):
        print(f"{frames.name}: {line}", file=sys.stderr)
    if ended is not None:
        print(f"{frames.name}: ended early; its first {summary.count} flows are in {out}", file=sys.stderr)
        raise ended
    if lost:
        raise not_finite(frames.name, lost, f"the other {summary.count - len(lost)} flows are in {out}")
    return values


def consume(
    estimates: Iterable[Estimate], add: Add, summary: Summary, *, total: int | None, title: str
) -> KeyboardInterrupt | FileFormatError | None:
    """Adds all estimates to the products and the summary. Returns the interrupt, or error of a frame, that ended this.

    Raises it if there is no estimate yet. An interrupt waits until all products have the current estimate.
    """
    with Progress(total, unit="frame", title=title, seconds=10.0) as progress:
        try:
            for one in estimates:
                with uninterrupted():
                    add(one)
                    summary.add(one)
                    progress.update(summary.count, summary.newest(one))
        except (KeyboardInterrupt, FileFormatError) as end:
            if summary.count == 0:
                raise
            return end
    return None


def large_enough(frames: Iterable[Tensor], name: str) -> Iterator[Tensor]:
    """The frames; raises VideoError unless they are 16 to 32766 pixels high and wide."""
    for frame in frames:
        if min(frame.shape[1:]) < LEAST or max(frame.shape[1:]) > MOST:
            raise VideoError(
                f"{name}: expected frames of {LEAST} to {MOST} pixels a side, got {frame.shape[2]}x{frame.shape[1]}"
            )
        yield frame


def not_finite(name: str, lost: Sequence[int], kept: str) -> NonFiniteError:
    """The error for a source with flows that are not finite."""
    return NonFiniteError(
        f"{name}, frame {listed(lost)}: the flow is not finite: the network's weights or its solve diverged; "
        f"take another checkpoint; {kept}"
    )
