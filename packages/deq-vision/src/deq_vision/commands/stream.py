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
    """Writes a video with what a network sees in SOURCE, each frame's solve begun at the state of the last.

    SOURCE is a video file, a folder of frames, or the index of a camera. Ctrl-C and SIGTERM end it; what was done
    until then is kept. Below each frame stand the network's frames per second, the residual and the evaluations of f.

    Args:
        source: what to look at.
        out: the video; its name ends in .mp4, .avi or .mkv (lossless).
        checkpoint: folder or file of a trained model, a released one (.pth), or a name that ships: digits, street,
            detect. By default the one that ships for the task; these know the mini sets, not the world.
        task: what the checkpoint must be for; by default whatever it is, and to segment without one.
        raw: a folder for what the network gives as files, a new one or one of an earlier stream as it left it:
            masks/000001.png (indexed) and so on, boxes/000001.json (COCO's format of results) or scores.csv, and
            labels.json, which says whose ids these have; by default none.
        steps: evaluations of f a frame. The first frame, and one behind a scene cut, get what the model has itself.
        tolerance: residual at which a frame is done before that; by default it gets all STEPS.
        warm: whether a frame begins at the state of the last; `--no-warm` shows the difference.
        cut: how many times the usual residual of a first evaluation makes a scene cut.
        side: longer side of the frames that the network sees, pixels; larger frames are reduced to it, by default to
            128 with a checkpoint that ships; by default one of one's own data sees what it was trained for, another
            frames as they are. Not for classifiers, which see the middle of a frame.
        least_score: detections below it are not shown.
        pixels: mean and deviation of the pixels that the network was trained with; auto is what one of one's own data
            keeps, CIFAR's for ten classes of images that nobody has named, and ImageNet's otherwise.
        names: file of the classes' names, one a line; by default those of one's own data, which the checkpoint keeps,
            those of the set that has so many, or numbers.
        fps: frames per second of the video written; by default those of the source, or 25.
        frames: how many frames to read at most; by default all.
        device: auto, which is a GPU where there is one, cpu, cuda or cuda:N.
        threads: of the CPU; by default as many as torch chooses.
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
