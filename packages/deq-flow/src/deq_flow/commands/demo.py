"""The demo. Its numbers are options: it is no experiment, and reads no params.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment.commands import Positional, finish
from deq_core.experiment.device import chosen_device
from deq_core.experiment.media import video
from deq_flow.demo.outputs import Product
from deq_flow.demo.run import DemoConfig, run
from deq_flow.inference_params import Start
from deq_flow.networks import load


def demo(
    source: Annotated[str, Positional],
    more: Annotated[tuple[str, ...], Positional] = (),
    *,
    out: Path,
    checkpoint: str = "default",
    save: tuple[Product, ...] = ("colour", "side-by-side"),
    start: Start = "cold",
    steps: int = 24,
    tolerance: float = 0.05,
    side: int | None = None,
    max_speed: float | None = None,
    fps: float | None = None,
    container: Literal["mp4", "avi", "mkv"] = "mp4",
    frames: int | None = None,
    device: str = "auto",
) -> None:
    """Writes the motion in a video to the folder OUT: colours, arrows, files of flow.

    SOURCE is a video file, a folder of frames, the first of two or more images, or the index of a camera. Ctrl-C and
    SIGTERM end it; what was done until then is kept. Flows that are not to be trusted, as at a scene cut, are marked
    in the pictures and in demo.json, and counted at the end.

    Args:
        source: what to look at.
        more: further images.
        out: a new folder, or one of an earlier demo as it left it, which is replaced.
        checkpoint: name of a shipped one, or a file: a trained one of this package or a released one (.pth).
        save: colour, side-by-side, arrows and warped (the second frame, warped back to the first) are videos, or
            pictures of two images; flo, kitti and npz are files of flow, one a frame. So are backward (flow from the
            second frame to the first), occlusion and confidence (how well both flows agree), which take twice the time.
        start: what each frame begins with: cold, nothing; warm, the last flow, forward-warped; reuse, the last
            fixed point; reuse_interpolated, both. What is carried may keep what went wrong.
        steps: iterations at most.
        tolerance: a fixed point is near enough where an evaluation changes the hidden state by no more than this share
            of its length, and the flow by no more than this share of a cell.
        side: longer side of the frames that the network sees, pixels; larger frames are reduced to it. By default
            frames are left as they are.
        max_speed: speed of full colour, pixels a frame, beyond which it darkens; by default it follows the video.
        fps: frames per second of the videos written; by default those of the source.
        container: format of the videos written; mkv is lossless.
        frames: how many frames to read at most.
        device: auto, cpu, cuda or cuda:N.
    """
    config = DemoConfig(
        products=save,
        steps=steps,
        tolerance=tolerance,
        start=start,
        side=side,
        max_speed=max_speed,
        fps=fps,
        container=f".{container}",
        frames=frames,
    )
    pictures = video.frames(video.source_of((source, *more)))
    network = load(checkpoint).to(chosen_device(device))
    finish(run(network, pictures, config, out=out, name=checkpoint))
