"""The command that trains models."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import PARAMS, Flat, default, fingerprint, finish, required, resumable
from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.contents import contents
from deq_core.experiment.media.image_folder import IMAGES
from deq_core.experiment.options import Options, asked
from deq_core.experiment.tracking.run import track
from deq_vision.commands.study import STUDIES
from deq_vision.config import Classification, Detection, Segmentation
from deq_vision.data.sets.own.boxes import OwnBoxes
from deq_vision.data.sets.own.classes import classes_of
from deq_vision.data.sets.own.labels import labels_of
from deq_vision.data.sets.own.layout import Layout, files_of, layout_of
from deq_vision.detection.params import Detect
from deq_vision.models.build import file_of
from deq_vision.models.variants import VARIANTS
from deq_vision.params import Classify, Experiment, Segment, Task

SECTION = "vision"
Recipes = Literal["classes", "masks", "boxes", "classify", "segment", "detect"]
RECIPES = Path(__file__).parents[1] / "recipes"
"""Folder of the shipped recipes, one per task."""


def train(
    experiment: Annotated[str | None, default("none, the recipe of PARAMS")] = None,
    *,
    data: Annotated[Path | None, required()] = None,
    out: Annotated[Path | None, required()] = None,
    seed: config.Seed = 0,
    start: Annotated[str | None, default("random weights")] = None,
    change: Annotated[Options, Flat] = Options(),  # noqa: B008  it is frozen
    task: Annotated[Recipes | None, default("classes, masks or boxes, as DATA is laid out")] = None,
    params: Annotated[Path | None, default("a recipe that ships, for TASK; with EXPERIMENT, params.yaml")] = None,
    section: Annotated[str | None, default("the whole file; with EXPERIMENT, vision")] = None,
    template: bool = False,
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains a network on the data in the folder DATA; writes model.safetensors and history.csv to OUT.

    Task, network and recipe come from the file PARAMS; options override single values. With EXPERIMENT they are those
    of a network of the pipeline, in `experiments` of params.yaml. Run the same command again to resume an interrupted
    training from its checkpoint in `scratch`.

    Args:
        experiment: name of a network in `experiments` of the section.
        data: folder of your own labelled images, or of the data sets that the recipe names.
        out: a new folder, or the unchanged output of an earlier training, which is replaced.
        seed: random seed of the weights, the order of the data, and the augmentation.
        start: network whose weights training starts from: a shipped name, a folder written by training, a weights file
            (.safetensors), or a released file (.pth). A head of other shapes, for another task or number of classes,
            starts from random weights.
        change: values of the recipe to override.
        task: which shipped recipe. For your own images: classes, a folder for each class; masks, with images, masks and
            labels.yaml; boxes, with images and one JSON file in COCO's format. For published and miniature sets:
            classify, segment, detect.
        params: recipe file; `--template` writes one.
        section: section of that file.
        template: print the shipped recipe for TASK, or for classes, to be edited and passed as `--params`, without
            training.
        scratch: folder for the checkpoints of interrupted trainings.
    """
    if template:
        chosen = task or ("classes" if data is None else layout_of(data))
        print((RECIPES / f"{chosen}.yaml").read_text(), end="")
        return
    from deq_vision import train as training

    data, out = asked(data=data), asked(out=out)
    if experiment is None:
        file = params or RECIPES / f"{task or layout_of(data)}.yaml"
        name, settings = "own", config.load(Experiment, file, section or "")
    else:
        name, params, section = experiment, params or PARAMS, section or SECTION
        STUDIES.check(SECTION, params, section)
        settings = config.load(Experiment, params, f"{section}.experiments.{experiment}")
    settings = with_own_labels(laid_over(settings, change), data)
    distributed.become("deq_vision.cli", sys.argv[1:], settings.recipe.processes)
    root = data / settings.task.folder
    manifest = root / "manifest.json"
    first = None if start is None else file_of(start)
    files = [file for file in (manifest, first) if file is not None and file.exists()]
    layout = own_layout(settings.task)
    # Released sets have up to a million files, too many to compare.
    read = str(root.resolve()) if layout is None else contents(files_of(root, layout), IMAGES)
    digest = fingerprint({"experiment": settings, "data": read}, *files, package="deq_vision")
    with (
        resumable(scratch, f"vision_train-{name}-{seed}", digest, out=out) as folder,
        track(
            "vision.train",
            settings,
            out=out,
            case={"experiment": name, "seed": seed},
            scratch=folder,
            parent_of=first,
            data=[manifest],
        ) as log,
    ):
        metrics = training.train(settings, seed=seed, data=data, out=out, scratch=folder, log=log, start=start)
    if distributed.rank() == 0:
        finish(metrics)


def own_layout(task: Task) -> Layout | None:
    """The layout of your own labelled images for a task; None for a task on other data."""
    match task:
        case Classify(data="own"):
            return "classes"
        case Segment(labels="own"):
            return "masks"
        case Detect(objects="own"):
            return "boxes"
    return None


def with_own_labels(settings: Experiment, data: Path) -> Experiment:
    """The experiment with a head for the classes in DATA, if that is your own data.

    The head stores names, ids and preprocessing, so that the network can be used without the data.

    Raises:
        LayoutError, FileFormatError, ConfigError: the classes are missing.
    """
    task, architecture = settings.task, settings.model.architecture
    root = data / task.folder
    match task, architecture.head:
        case Classify(data="own"), Classification() as head:
            names = tuple(classes_of(root))
            head = replace(head, classes=len(names), names=names, crop=task.test_crop)
        case Segment(labels="own"), Segmentation() as head:
            found = labels_of(root).label_set()
            known = {"names": found.names, "ids": found.ids, "colours": found.colours}
            head = replace(head, classes=len(found), **known, sides=task.test_sides)
        case Detect(objects="own"), Detection() as head:
            found = OwnBoxes(root).categories
            known = {"names": tuple(found.values()), "ids": tuple(found)}
            head = replace(head, classes=len(found), **known, sides=task.test_sides)
        case _:
            return settings
    head = replace(head, pixels=(task.normalisation.mean, task.normalisation.std))
    return replace(settings, model=replace(settings.model, architecture=replace(architecture, head=head)))


def laid_over(settings: Experiment, change: Options) -> Experiment:
    """The experiment with the overridden values.

    Raises:
        ConfigError: the values are inconsistent.
    """
    model = replace(settings.model, layer=change.of_layer(settings.model.layer))
    if change.network is not None:
        if change.network not in VARIANTS:
            raise ConfigError(f"network: expected one of {', '.join(VARIANTS)}, got {change.network!r}")
        head = model.architecture.head
        architecture = VARIANTS[change.network].architecture
        model = replace(model, architecture=architecture if head is None else architecture.with_classes(head.classes))
    try:
        return replace(settings, model=model, recipe=change.of_recipe(settings.recipe))
    except ValueError as error:
        raise ConfigError(str(error)) from error
