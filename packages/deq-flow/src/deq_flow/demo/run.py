"""The demo: a source of frames, a network, and a folder of products."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from deq_core.experiment.config import ConfigError, plain
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.media import video
from deq_core.experiment.media.video import Frames, VideoError
from deq_flow.demo.follow import LEAST, Estimate, follow, side_of
from deq_flow.demo.outputs import Add, Product, outputs
from deq_flow.inference import Estimator
from deq_flow.inference_params import Inference, Start
from deq_flow.networks import Network

MOST = 32766  # pixels a side that OpenCV warps
SUMMARY = "demo.json"
"""What the demo says of its own output."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How the frames of a source are compared, and what is made of that.

    Raises:
        ConfigError: a number out of range.
    """

    products: tuple[Product, ...] = ("colour", "side-by-side")
    steps: int = 24
    """Iterations at most."""
    tolerance: float = 0.05
    """Relative residual at which a fixed point is near enough; unrolled networks have none and use all `steps`."""
    start: Start = "cold"
    """What a pair of frames begins with; see `follow`."""
    side: int | None = None
    """Longer side of the frames that the network sees, pixels; None is what its checkpoint is good for, and frames as
    they are for one with scales."""
    max_speed: float | None = None
    """Speed of full colour, pixels; None follows the video."""
    fps: float | None = None
    """Of the videos written; None is that of the source, or 25."""
    container: str = ".mp4"
    """Suffix of the videos written."""
    frames: int | None = None
    """Frames read at most; None is all."""

    def __post_init__(self) -> None:
        if not self.products:
            raise ConfigError("save: expected at least one product")
        for name, least in (("steps", 1), ("frames", 2), ("side", LEAST)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}: expected at least {least}, got {value}")
        for name in ("tolerance", "max_speed", "fps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: expected a number above 0, got {value}")

    def inference(self) -> Inference:
        """How the network is run."""
        return Inference(stop=StopConfig(max_steps=self.steps, tol=self.tolerance), steps=self.steps)


def source_of(names: Sequence[str]) -> video.Source:
    """The source that the words of a command line name: a file, a folder, a camera's index, or two and more images."""
    if len(names) > 1:
        return [Path(name) for name in names]
    (name,) = names
    return int(name) if name.isdigit() and not Path(name).exists() else Path(name)


def run(network: Network, frames: Frames, config: DemoConfig, *, out: Path, name: str = "") -> dict[str, float]:
    """Writes the products of the frames to the folder `out`, and demo.json: settings and means.

    `out` appears whole when the last frame is done, and not at all after an error. Ctrl-C ends the frames: what was
    done until then is finished and kept. Fewer frames than the source announces are said on stderr.

    Args:
        network: in evaluation mode, on the device that it shall run on.
        frames: at least two.
        config: how they are compared, and what is made of that.
        out: a new or an empty folder, or one that a demo wrote and nobody changed, which is replaced.
        name: of the network, for demo.json.

    Returns:
        estimates, how many of them started from nothing and how many zero flow beats, frames per second, mean
        iterations (over several scales, in those of the finest) and, of equilibrium networks, residual (of the finest),
        and whether every frame was done.

    Raises:
        VideoError: there are fewer than two frames, or they cannot be read or are too small or too large.
        NonFiniteError: a flow is not finite, naming its frame. What was done before it is in `out`, as after Ctrl-C.
        OutputError: `out` cannot be written, or holds anything else.
    """
    total = frames.count if config.frames is None else min(frames.count or config.frames, config.frames)
    if total is not None and total < 2:
        raise too_few(frames.name, total)
    read = large_enough(islice(frames, config.frames), frames.name)
    side = side_of(network) if config.side is None else config.side
    means = Means()
    with output_directory(out) as partial:
        with outputs(
            partial,
            config.products,
            fps=config.fps or frames.fps or video.DEFAULT_FPS,
            container=config.container,
            single=total == 2,
            max_speed=config.max_speed,
        ) as add:
            ended = consume(
                follow(Estimator(network, config.inference()), read, start=config.start, side=side, name=frames.name),
                add,
                means,
                total=None if total is None else total - 1,
                title=Path(frames.name).name,
            )
            if means.count == 0:
                raise too_few(frames.name, 1)
        values = {**means.values(), "complete": float(ended is None)}
        used = plain(replace(config, side=side))
        settings = {"source": frames.name, "announced": frames.count, "config": used, "network": name}
        settings["scales"] = None if network.scales is None else plain(network.scales)
        write_json(partial / SUMMARY, {**settings, **values, "frames": means.rows})
    if isinstance(ended, NonFiniteError):
        raise NonFiniteError(f"{ended}; the {means.count} flows before it are in {out}") from ended
    if ended is None:
        video.tell_of_fewer(frames.name, total, means.count + 1)
    tell_of_worse(frames.name, means, side)
    return values


def consume(
    estimates: Iterable[Estimate], add: Add, means: "Means", *, total: int | None, title: str
) -> KeyboardInterrupt | NonFiniteError | None:
    """Adds every estimate to the products and the means; returns what ended that early, after one at least."""
    with tqdm(total=total, desc=title, unit="frame", disable=None) as bar:
        try:
            for one in estimates:
                add(one)
                means.add(one)
                bar.set_postfix(means.newest(one), refresh=False)
                bar.update()
        except (KeyboardInterrupt, NonFiniteError) as end:
            if means.count == 0:
                raise
            return end
    return None


class Means:
    """Means over a video, and a row of numbers for each of its estimates."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.iterations = 0.0
        self.residual: float | None = None
        """The sum of residuals; None for a network that has none."""
        self.began = time.perf_counter()

    def add(self, estimate: Estimate) -> None:
        """Counts one more estimate."""
        row = {
            "frame": self.count + 1,
            "iterations": estimate.iterations,
            "cold": estimate.cold,
            "error": estimate.error,
            "still": estimate.still,
        }
        if estimate.residual is not None:
            row["residual"] = estimate.residual
            self.residual = (self.residual or 0.0) + estimate.residual
        self.rows.append(row)
        self.iterations += estimate.iterations

    @property
    def count(self) -> int:
        """Estimates."""
        return len(self.rows)

    @property
    def worse(self) -> list[int]:
        """Frames, from 1, whose flow explains them worse than zero flow."""
        return [int(row["frame"]) for row in self.rows if row["error"] > row["still"]]

    def newest(self, estimate: Estimate) -> dict[str, str]:
        """What the progress bar says."""
        shown = {"iterations": f"{estimate.iterations:.4g}", "mean": f"{self.iterations / self.count:.1f}"}
        return shown if estimate.residual is None else {**shown, "residual": f"{estimate.residual:.1e}"}

    def values(self) -> dict[str, float]:
        """Estimates, how many of them started from nothing, how many zero flow beats, and means."""
        values = {
            "estimates": self.count,
            "cold": sum(row["cold"] for row in self.rows),
            "worse": len(self.worse),
            "fps": self.count / (time.perf_counter() - self.began),
            "iterations": self.iterations / self.count,
        }
        return values if self.residual is None else {**values, "residual": self.residual / self.count}


def large_enough(frames: Iterable[Tensor], name: str) -> Iterator[Tensor]:
    """The frames, which must be 16 to 32766 pixels high and wide."""
    for frame in frames:
        if min(frame.shape[1:]) < LEAST or max(frame.shape[1:]) > MOST:
            raise VideoError(
                f"{name}: expected frames of {LEAST} to {MOST} pixels a side, got {frame.shape[2]}x{frame.shape[1]}"
            )
        yield frame


def tell_of_worse(name: str, means: Means, side: int | None) -> None:
    """Says on stderr how many flows explain their frames worse than no motion would."""
    if worse := means.worse:
        named = ", ".join(map(str, worse[:5])) + (", ..." if len(worse) > 5 else "")
        seen = "as they are" if side is None else f"of at most {side} pixels a side"
        print(
            f"{name}: {len(worse)} of {means.count} flows explain their frames worse than no motion would (from frame "
            f"{named}; `error` above `still` in {SUMMARY}): they hardly move, or the network, which saw frames {seen}, "
            "is lost: try another --side or --checkpoint",
            file=sys.stderr,
        )


def too_few(name: str, count: int) -> VideoError:
    """The error for a source without a pair."""
    return VideoError(f"{name}: expected at least two frames, got {count}: motion is between two; name a second image")
