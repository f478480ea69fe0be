"""The command that evaluates a network on your own labelled images; studies evaluate those of the pipeline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment.commands import Positional, finish
from deq_core.experiment.config import ConfigError
from deq_core.experiment.device import chosen_device
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued, tables
from deq_core.experiment.tables import Row, markdown, write_rows
from deq_core.experiment.tracking.run import track
from deq_vision.models.build import file_of, load, model_config


def evaluate(
    checkpoint: Annotated[str, Positional],
    *,
    data: Path,
    out: Path,
    split: Literal["train", "val", "test"] = "val",
    batch_size: int = 8,
    pixels: Literal["auto", "imagenet", "cifar"] = "auto",
    device: str = "auto",
) -> None:
    """Evaluates CHECKPOINT on your own labelled images in the folder DATA, laid out as for `train`.

    OUT gets metrics.json, classes.csv with a row for each class, and steps.csv with a row for each evaluation of f. The
    first two are of the network's own solve.

    Args:
        checkpoint: a shipped name, a folder written by training, a weights file (.safetensors), or a released file
            (.pth). Its classes must be those of DATA, in the same order.
        data: folder of class folders, of images and masks, or of images and boxes.
        out: a new folder, or the unchanged output of an earlier evaluation, which is replaced.
        split: which images. Without folders for the splits, val and test are both the images that training held out.
        batch_size: images of one size that are solved together.
        pixels: normalisation of the pixels. auto takes what the checkpoint stores if it was trained on your own data;
            else CIFAR's for ten classes without names, and ImageNet's for all others.
        device: auto (a GPU if available), cpu, cuda or cuda:N.
    """
    from deq_vision.demo.label_space import label_space_of
    from deq_vision.evaluate import Evaluate, Evaluation
    from deq_vision.evaluate import evaluate as measure
    from deq_vision.tasks import own_names

    model = load(checkpoint).to(chosen_device(device))
    label_space = label_space_of(model, pixels=pixels)
    task = label_space.own_task()
    names = own_names(task, data)
    if names != label_space.names:
        raise ConfigError(
            f"checkpoint: expected one of the classes of {data}, {', '.join(names or ())}, got {checkpoint}, which "
            f"knows {', '.join(label_space.names)}; choose the data that it was trained with, or train one"
        )
    layer = model_config(model).layer
    stop = layer.eval_stop or layer.stop
    try:
        config = Evaluate(stop=stop, sweep=stop.max_steps, batch_size=batch_size, split=split)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    told = {"task": task, "evaluate": config}
    case = {"checkpoint": checkpoint, "data": str(data)}
    found = Evaluation(task, config)
    with (
        track("vision.evaluate", told, out=out, case=case, parent_of=file_of(checkpoint)) as log,
        rescued(out, lambda folder: tables(found.tables())(folder)),
    ):
        metrics, rows = measure(model, task, config, data, source=checkpoint, found=found)
        by_class = found.final.by_class(label_space.names)
        log(metrics)
        with output_directory(out) as partial:
            write_json(partial / "metrics.json", metrics)
            write_rows(partial / "classes.csv", by_class)
            write_rows(partial / "steps.csv", rows)
    print(told_by_class(by_class))
    finish(metrics)


def told_by_class(rows: Sequence[Row]) -> str:
    """The printed table of the classes."""
    lines = [
        ["-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()]
        for row in rows
    ]
    return markdown(list(rows[0]), lines, names=1)
