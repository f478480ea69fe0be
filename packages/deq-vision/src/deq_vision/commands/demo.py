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
    checkpoint: str | None = None,
    task: Literal["classify", "segment", "detect"] | None = None,
    out: Path = Path("demo"),
    side: int | None = None,
    least_score: float = 0.3,
    pixels: Literal["auto", "imagenet", "cifar"] = "auto",
    names: Path | None = None,
    device: str = "auto",
) -> None:
    """Writes what a network sees in an image, or in the images of a folder, to the folder OUT.

    demo.json has the best classes with their probabilities, the share of each class of pixels, or boxes with their
    scores, which are drawn too, in one PNG file an image. For other programs there are scores.csv, masks (indexed PNG)
    or boxes (JSON in COCO's format of results), and labels.json, which says whose ids these have.

    Args:
        source: an image or a folder of images.
        checkpoint: folder or file of a trained model, a released one (.pth), or a name that ships: digits, street,
            detect. By default the one that ships for the task; these know the mini sets, not the world.
        task: what the checkpoint must be for; by default whatever it is, and to segment without one.
        out: a new folder, or one of an earlier demo as it left it, which is replaced.
        side: longer side of the images that the network sees, pixels; larger ones are reduced to it, by default to 128
            with a checkpoint that ships; by default one of one's own data sees what it was trained for, another images
            as they are. Not for classifiers, which see the middle of an image.
        least_score: detections below it are not shown.
        pixels: mean and deviation of the pixels that the network was trained with; auto is what one of one's own data
            keeps, CIFAR's for ten classes of images that nobody has named, and ImageNet's otherwise.
        names: file of the classes' names, one a line; by default those of one's own data, which the checkpoint keeps,
            those of the set that has so many, or numbers.
        device: auto, which is a GPU where there is one, cpu, cuda or cuda:N.
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
