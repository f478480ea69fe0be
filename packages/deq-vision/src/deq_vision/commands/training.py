"""The command that trains models."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import PARAMS, Flat, default, fingerprint, finish, required, resumable
from deq_core.experiment.config import ConfigError
from deq_core.experiment.options import Options, asked
from deq_core.experiment.tracking.run import track
from deq_vision.commands.study import STUDIES
from deq_vision.config import VARIANTS, Classification, Detection, Segmentation
from deq_vision.data.sets.own.boxes import OwnBoxes
from deq_vision.data.sets.own.classes import classes_of
from deq_vision.data.sets.own.labels import labels_of
from deq_vision.data.sets.own.layout import Layout, contents, layout_of
from deq_vision.detection.params import Detect
from deq_vision.models.build import file_of
from deq_vision.params import Classify, Experiment, Segment, Task

SECTION = "vision"
Recipes = Literal["classes", "masks", "boxes", "classify", "segment", "detect"]
RECIPES = Path(__file__).parents[1] / "recipes"
"""The recipe of each task, where none is named."""


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
    """Trains a model on the data sets in the folder DATA; writes model.safetensors and history.csv to OUT.

    Task, model and recipe are those of the file PARAMS, and options change them. With EXPERIMENT they are those of one
    of the pipeline's models in params.yaml: of the section's `experiments`. A training that was interrupted resumes
    from its checkpoint below `scratch`.

    Args:
        experiment: a name of the section's `experiments`.
        data: folder of the data sets.
        out: a new folder, or one of an earlier training as it left it, which is replaced.
        seed: of the weights, the order of the data, and its augmentation.
        start: the network whose weights it begins with: a shipped name, a folder that training wrote, a file of weights
            (.safetensors), or a released file (.pth), as the released Cityscapes models began as ImageNet's. A head of
            other shapes, as of another task or number of classes, is left out.
        change: what is changed of the recipe.
        task: which of the recipes that ship. Those for pictures of one's own: classes, where DATA has a folder of them
            for each class; masks, where it has images, masks and labels.yaml; boxes, where it has images and a JSON
            file of COCO's format. classify, segment and detect are for the published sets and the mini ones.
        params: file with the recipe, such as `--template` writes.
        section: where in that file.
        template: prints the recipe that ships for TASK, by default classes, to be changed and named by `--params`, and
            trains nothing.
        scratch: folder of the checkpoints of interrupted trainings.
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
    read = str(root.resolve()) if layout is None else contents(root, layout)  # of released sets a million files
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
    """How pictures of one's own are laid out for a task; None of one for other data."""
    match task:
        case Classify(data="own"):
            return "classes"
        case Segment(labels="own"):
            return "masks"
        case Detect(objects="own"):
            return "boxes"
    return None


def with_own_labels(settings: Experiment, data: Path) -> Experiment:
    """The experiment with a head for the classes that are found in DATA, where these are one's own.

    The head keeps what there is to know of them, so that a network names its classes without the data.

    Raises:
        LayoutError, FileFormatError, ConfigError: they are not there.
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
    """The experiment with what is changed of it.

    Raises:
        ConfigError: it does not fit.
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
