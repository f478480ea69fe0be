"""The streaming command, which takes options only and reads no params.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment.commands import FILE, Positional, default, finish
from deq_core.experiment.media import video


def stream(
    source: Annotated[str, Positional],
    *,
    out: Annotated[Path, FILE],
    checkpoint: Annotated[str | None, default("the shipped network for TASK")] = None,
    task: Annotated[
        Literal["classify", "segment", "detect"] | None, default("the checkpoint's; without one, segment")
    ] = None,
    raw: Annotated[Path | None, default("none")] = None,
    steps: int = 2,
    tolerance: Annotated[float | None, default("none, all STEPS are spent")] = None,
    warm: bool = True,
    cut: float = 1.8,
    side: Annotated[
        int | None,
        default("128 for a shipped checkpoint, the training size for one of your own data, else the frame's"),
    ] = None,
    least_score: float = 0.3,
    pixels: Literal["auto", "imagenet", "cifar"] = "auto",
    names: Annotated[
        Path | None,
        default("those in a checkpoint of your own data; else the data set's with as many classes, or numbers"),
    ] = None,
    fps: Annotated[float | None, default("the source's, or 25")] = None,
    frames: Annotated[int | None, default("all")] = None,
    device: str = "auto",
    threads: Annotated[int | None, default("torch's choice")] = None,
) -> None:
    """Runs a network on a video, warm-started from frame to frame, and writes a video with the result.

    Each frame's solve starts from the previous frame's state. SOURCE is a video file, a folder of frames, or the index
    of a camera. Ctrl-C and SIGTERM stop it and keep what is done. Each frame shows frames per second, residual, and
    evaluations of f.

    Args:
        source: video, folder of frames, or index of a camera.
        out: video to write: .mp4, .avi, or .mkv (lossless).
        checkpoint: a folder written by training, a weights file (.safetensors), a released file (.pth), or a shipped
            name: digits, street or detect, which know the miniature data sets only.
        task: task that the checkpoint must be for.
        raw: folder for the raw results, new or the unchanged output of an earlier stream: masks/000001.png (indexed),
            boxes/000001.json (COCO's results format) or scores.csv, and labels.json with the names of their ids.
        steps: evaluations of f a frame. The first frame, and a frame after a scene cut, get the network's own number.
        tolerance: residual at which the solve of a frame ends early.
        warm: start each frame from the previous state; `--no-warm` starts from zero, for comparison.
        cut: a frame whose first residual is this many times the usual one is taken for a scene cut.
        side: longer side of the frames as the network sees them, in pixels; larger ones are downscaled. Not for
            classifiers, which see a centre crop.
        least_score: hide detections with a lower score.
        pixels: normalisation of the pixels. auto takes what the checkpoint stores if it was trained on your own data;
            else CIFAR's for ten classes without names, and ImageNet's for all others.
        names: file with the class names, one a line.
        fps: frame rate of the video written.
        frames: maximum number of frames to read.
        device: auto (a GPU if available), cpu, cuda or cuda:N.
        threads: CPU threads.
    """
    from deq_vision.demo.video import StreamConfig, chosen_threads, write_stream
    from deq_vision.demo.viewer import viewer_of

    settings = StreamConfig(steps=steps, tolerance=tolerance, warm=warm, cut=cut, fps=fps, frames=frames)
    chosen_threads(threads)
    pictures = video.frames(video.source_of([source]))
    viewer, _ = viewer_of(checkpoint, task, device, side=side, least_score=least_score, pixels=pixels, names=names)
    finish(write_stream(viewer, pictures, settings, out=out, raw=raw))
