"""The demo. Its numbers are options: it is no experiment, and reads no params.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment.commands import Positional, finish
from deq_core.experiment.config import ConfigError
from deq_core.experiment.device import chosen_device
from deq_vision.models import shipped
from deq_vision.models.build import load


def demo(
    source: Annotated[Path, Positional],
    *,
    out: Path,
    checkpoint: str | None = None,
    task: Literal["classify", "segment", "detect"] | None = None,
    side: int | None = None,
    least_score: float = 0.3,
    pixels: Literal["auto", "imagenet", "cifar"] = "auto",
    names: Path | None = None,
    device: str = "auto",
) -> None:
    """Runs a network on an image, or on all images in a folder, and writes predictions and pictures to the folder OUT.

    demo.json has the most probable classes of each image, the share of pixels of each class, or boxes with scores; one
    PNG file an image shows them. For other programs there are scores.csv, masks (indexed PNG) or boxes (JSON in COCO's
    results format), and labels.json with the names of their ids.

    Args:
        source: an image or a folder of images.
        out: a new folder, or the unchanged output of an earlier demo, which is replaced.
        checkpoint: a folder written by training, a weights file (.safetensors), a released file (.pth), or a shipped
            name: digits, street, detect. By default the shipped network for the task; the shipped ones know the
            miniature data sets only.
        task: task that the checkpoint must be for. By default the task of the checkpoint, and segment without one.
        side: longer side of the images as the network sees them, in pixels; larger ones are downscaled. Defaults: 128
            with a shipped checkpoint, the training size with one trained on your own data, else the image's size. Not
            for classifiers, which see a centre crop.
        least_score: hide detections with a lower score.
        pixels: normalisation of the pixels. auto takes what the checkpoint stores if it was trained on your own data;
            else CIFAR's for ten classes without names, and ImageNet's for all others.
        names: file with the class names, one a line. By default those that the checkpoint stores if it was trained on
            your own data; else those of the known data set with as many classes, or numbers.
        device: auto (a GPU if available), cpu, cuda or cuda:N.
    """
    from deq_vision.demo.images import images_of, run
    from deq_vision.demo.label_space import label_space_of
    from deq_vision.demo.viewer import Viewer

    images = images_of(source)
    checkpoint, side = shipped.chosen(checkpoint, task, side)
    model = load(checkpoint).to(chosen_device(device))
    label_space = label_space_of(model, pixels=pixels, names=names)
    if task not in (None, label_space.task):
        raise ConfigError(f"checkpoint: expected one to {task} with, got {checkpoint}, which is to {label_space.task}")
    viewer = Viewer(model, label_space, side=side, least_score=least_score)
    finish(run(viewer, images, out=out, name=checkpoint))
