"""The demo command, which takes options only and reads no params.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment.commands import Positional, default, finish


def demo(
    source: Annotated[Path, Positional],
    *,
    out: Path,
    checkpoint: Annotated[str | None, default("the shipped network for TASK")] = None,
    task: Annotated[
        Literal["classify", "segment", "detect"] | None, default("the checkpoint's; without one, segment")
    ] = None,
    side: Annotated[
        int | None,
        default("128 for a shipped checkpoint, the training size for one of your own data, else the image's"),
    ] = None,
    least_score: float = 0.3,
    pixels: Literal["auto", "imagenet", "cifar"] = "auto",
    names: Annotated[
        Path | None,
        default("those in a checkpoint of your own data; else the data set's with as many classes, or numbers"),
    ] = None,
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
            name: digits, street or detect, which know the miniature data sets only.
        task: task that the checkpoint must be for.
        side: longer side of the images as the network sees them, in pixels; larger ones are downscaled. Not for
            classifiers, which see a centre crop.
        least_score: hide detections with a lower score.
        pixels: normalisation of the pixels. auto takes what the checkpoint stores if it was trained on your own data;
            else CIFAR's for ten classes without names, and ImageNet's for all others.
        names: file with the class names, one a line.
        device: auto (a GPU if available), cpu, cuda or cuda:N.
    """
    from deq_vision.demo.images import images_of, run
    from deq_vision.demo.viewer import viewer_of

    images = images_of(source)
    viewer, name = viewer_of(checkpoint, task, device, side=side, least_score=least_score, pixels=pixels, names=names)
    finish(run(viewer, images, out=out, name=name))
