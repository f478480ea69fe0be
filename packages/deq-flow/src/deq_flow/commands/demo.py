"""The demo. Its numbers are options: it is no experiment, and reads no params.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment.commands import Positional, default, finish
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
    side: Annotated[int | None, default("the frames' own")] = None,
    max_speed: Annotated[float | None, default("as in the video")] = None,
    fps: Annotated[float | None, default("the source's")] = None,
    container: Literal["mp4", "avi", "mkv"] = "mp4",
    frames: Annotated[int | None, default("all")] = None,
    device: str = "auto",
) -> None:
    """Estimates the optical flow of a video and writes it to the folder OUT as videos, pictures or flow files.

    SOURCE is a video file, a folder of frames, the first of two or more images, or the index of a camera. Ctrl-C and
    SIGTERM stop the demo and keep what is done. Flow that is not to be trusted, for instance at a scene cut, is marked
    in the pictures and in demo.json, and counted at the end.

    Args:
        source: video, folder of frames, image, or index of a camera.
        more: further images.
        out: a new folder, or the unchanged output of an earlier demo, which is replaced.
        checkpoint: a shipped name, a folder written by training, a weights file (.safetensors), or a released file
            (.pth).
        save: outputs. As videos, or as pictures for two images: colour, side-by-side, arrows, and warped (the second
            frame warped to the first). As one flow file a frame: flo, kitti and npz. As one file a frame, for twice the
            time: backward (flow from the second frame to the first), occlusion, and confidence (how well forward and
            backward flow agree).
        start: initialisation of each frame: cold (zero), warm (the previous flow, forward-warped), reuse (the previous
            fixed point), or reuse_interpolated (both). All but cold may carry an error on to later frames.
        steps: maximum number of evaluations.
        tolerance: the solve ends when an evaluation changes the hidden state by at most this share of its norm, and the
            flow by at most this share of a cell.
        side: longer side of the frames as the network sees them, in pixels; larger frames are downscaled.
        max_speed: speed shown in full colour, in pixels a frame; faster motion is darker.
        fps: frame rate of the videos written.
        container: format of the videos written; mkv is lossless.
        frames: maximum number of frames to read.
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
