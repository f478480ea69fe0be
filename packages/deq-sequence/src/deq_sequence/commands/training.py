"""The command that trains language models."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import PARAMS, Flat, default, fingerprint, finish, required, resumable
from deq_core.experiment.options import Options, asked
from deq_core.experiment.tracking.run import track
from deq_sequence.commands.study import STUDIES
from deq_sequence.data import texts
from deq_sequence.data.vocabulary import Kind
from deq_sequence.networks import file_of, load, load_vocabulary
from deq_sequence.params import Model, Train, Training

SECTION = "sequence"
RECIPE = Path(__file__).parents[1] / "recipes" / "text.yaml"
"""The default recipe."""


def train(
    method: Annotated[str | None, default("none, the recipe of PARAMS")] = None,
    *,
    data: Annotated[Path | None, required()] = None,
    out: Annotated[Path | None, required()] = None,
    seed: config.Seed = 0,
    start: Annotated[str | None, default("random weights")] = None,
    change: Annotated[Options, Flat] = Options(),  # noqa: B008  it is frozen
    tokens: Annotated[Kind | None, default("the recipe's")] = None,
    params: Annotated[Path | None, default("a recipe that ships; with METHOD, params.yaml")] = None,
    section: Annotated[str | None, default("the whole file; with METHOD, sequence")] = None,
    template: bool = False,
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains a language model on DATA, a text file or a folder of prepared texts, and writes it to OUT.

    Network and recipe come from the file PARAMS; options override single values. With METHOD they are those of a
    network of the pipeline, in `model` and `train` of params.yaml. Run the same command again to resume an interrupted
    training from its checkpoint in `scratch`.

    Args:
        method: name of a network in `model` and `train` of the section.
        data: a UTF-8 text file, whose last tenth is held out for validation; or a folder written by `download`.
        out: a new folder, or the unchanged output of an earlier training, which is replaced.
        seed: random seed of the weights, the shifts of the text, and everything drawn in training.
        start: network whose weights training starts from, of the same architecture; a text file is tokenised with its
            vocabulary. A shipped name, a folder written by training, a weights file (.safetensors), or a released file.
            An unknown character or word is an error that names it.
        change: values of the recipe to override.
        tokens: tokenisation of a text file, learnt from it; only byte pairs can encode any other text. Not with
            `start`, whose vocabulary is used.
        params: recipe file; `--template` writes one.
        section: section of that file.
        template: print the shipped recipe, to be edited and passed as `--params`, without training.
        scratch: folder for the checkpoints of interrupted trainings.
    """
    if template:
        print(RECIPE.read_text(), end="")
        return
    from deq_sequence import train as training

    data, out = asked(data=data), asked(out=out)
    if not data.exists():
        raise config.ConfigError(f"{data}: no such file or folder; name a text file, or a folder that `download` wrote")
    if tokens is not None and (start is not None or data.is_dir()):
        raise config.ConfigError(
            "tokens: only for a text file, and not with start, whose vocabulary is used; leave it out"
        )
    if method is None:
        name, whole = "own", config.load(Training, params or RECIPE, section or "")
    else:
        name, params, section = method, params or PARAMS, section or SECTION
        STUDIES.check(SECTION, params, section)
        whole = Training(
            model=config.load(Model, params, f"{section}.model.{method}"),
            train=config.load(Train, params, f"{section}.train.{method}"),
        )
    model, recipe = laid_over(whole, change)
    distributed.become("deq_sequence.cli", sys.argv[1:], recipe.processes)
    read = None
    if data.is_file():
        vocabulary = None if start is None else load_vocabulary(start, load(start))
        read = texts.of_file(data, whole.tokens if tokens is None else whole.tokens.of_kind(tokens), vocabulary)
    parameters = {"method": name, "model": model, "train": recipe}
    files = [data if data.is_file() else data / "manifest.json", *([] if start is None else [file_of(start)])]
    digest = fingerprint({**parameters, "tokens": read and read.vocabulary.state()}, *files, package="deq_sequence")
    with (
        resumable(scratch, f"sequence_train-{name}-{seed}", digest, out=out) as folder,
        track(
            "sequence.train",
            parameters,
            out=out,
            case={"method": name, "seed": seed},
            scratch=folder,
            parent_of=None if start is None else file_of(start),
            inputs=[data] if data.is_file() else [],
            data=[] if data.is_file() else [data / "manifest.json"],
        ) as log,
    ):
        metrics = training.train(
            model, recipe, seed=seed, data=read or data, out=out, scratch=folder, log=log, start=start
        )
    if distributed.rank() == 0:
        finish(metrics)


def laid_over(whole: Training, change: Options) -> tuple[Model, Train]:
    """Network and recipe with the overridden values.

    Raises:
        ConfigError: the values are inconsistent.
    """
    model = config.changed(whole.model, {"name": change.network})
    if model.layer is not None:
        model = replace(model, layer=change.of_layer(model.layer))
    else:
        change.require_layer(model.name)
        model = config.changed(model, {"steps": change.max_steps})
    return model, change.of_recipe(whole.train)
