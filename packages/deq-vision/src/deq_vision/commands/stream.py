"""Streaming: a video from the command line, whose options are numbers since it is no experiment."""

from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment.commands import FILE, Positional, finish
from deq_core.experiment.config import ConfigError
from deq_core.experiment.device import chosen_device
from deq_core.experiment.media import video
from deq_vision.models import shipped
from deq_vision.models.build import load


def stream(
    source: Annotated[str, Positional],
    *,
    out: Annotated[Path, FILE],
    checkpoint: str | None = None,
    task: Literal["classify", "segment", "detect"] | None = None,
    raw: Path | None = None,
    steps: int = 2,
    tolerance: float | None = None,
    warm: bool = True,
    cut: float = 1.8,
    side: int | None = None,
    least_score: float = 0.3,
    pixels: Literal["auto", "imagenet", "cifar"] = "auto",
    names: Path | None = None,
    fps: float | None = None,
    frames: int | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """Runs a network on a video, warm-started from frame to frame, and writes a video with the result.

    Each frame's solve starts from the previous frame's state. SOURCE is a video file, a folder of frames, or the index
    of a camera. Ctrl-C and SIGTERM stop it and keep what is done. Each frame shows frames per second, residual, and
    evaluations of f.

    Args:
        source: video, folder of frames, or index of a camera.
        out: video to write: .mp4, .avi, or .mkv (lossless).
        checkpoint: a folder written by training, a weights file (.safetensors), a released file (.pth), or a shipped
            name: digits, street, detect. By default the shipped network for the task; the shipped ones know the
            miniature data sets only.
        task: task that the checkpoint must be for. By default the task of the checkpoint, and segment without one.
        raw: folder for the raw results, new or the unchanged output of an earlier stream: masks/000001.png (indexed),
            boxes/000001.json (COCO's results format) or scores.csv, and labels.json with the names of their ids. By
            default none.
        steps: evaluations of f a frame. The first frame, and a frame after a scene cut, get the network's own number.
        tolerance: residual at which the solve of a frame ends early. By default each frame gets all STEPS.
        warm: start each frame from the previous state; `--no-warm` starts from zero, for comparison.
        cut: a frame whose first residual is this many times the usual one is taken for a scene cut.
        side: longer side of the frames as the network sees them, in pixels; larger ones are downscaled. Defaults: 128
            with a shipped checkpoint, the training size with one trained on your own data, else the frame's size. Not
            for classifiers, which see a centre crop.
        least_score: hide detections with a lower score.
        pixels: normalisation of the pixels. auto takes what the checkpoint stores if it was trained on your own data;
            else CIFAR's for ten classes without names, and ImageNet's for all others.
        names: file with the class names, one a line. By default those that the checkpoint stores if it was trained on
            your own data; else those of the known data set with as many classes, or numbers.
        fps: frame rate of the video written. By default that of the source, or 25.
        frames: maximum number of frames to read. By default all.
        device: auto (a GPU if available), cpu, cuda or cuda:N.
        threads: CPU threads. By default torch's choice.
    """
    from deq_vision.demo.label_space import label_space_of
    from deq_vision.demo.video import StreamConfig, chosen_threads, write_stream
    from deq_vision.demo.viewer import Viewer

    settings = StreamConfig(steps=steps, tolerance=tolerance, warm=warm, cut=cut, fps=fps, frames=frames)
    chosen_threads(threads)
    pictures = video.frames(video.source_of([source]))
    checkpoint, side = shipped.chosen(checkpoint, task, side)
    model = load(checkpoint).to(chosen_device(device))
    label_space = label_space_of(model, pixels=pixels, names=names)
    if task not in (None, label_space.task):
        raise ConfigError(f"checkpoint: expected one to {task} with, got {checkpoint}, which is to {label_space.task}")
    viewer = Viewer(model, label_space, side=side, least_score=least_score)
    finish(write_stream(viewer, pictures, settings, out=out, raw=raw))
