"""The command that trains."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import PARAMS, Flat, default, fingerprint, finish, required, resumable
from deq_core.experiment.data.contents import contents
from deq_core.experiment.options import Options, asked
from deq_core.experiment.tracking.run import track
from deq_flow.commands.study import STUDIES
from deq_flow.data.mixes import files_of, open_sets
from deq_flow.networks import file_of
from deq_flow.params import EquilibriumModel, Model, Train, Training, UnrolledModel, named

SECTION = "flow"
RECIPE = Path(__file__).parents[1] / "recipes" / "flow.yaml"
"""The recipe where none is named."""


def train(
    method: Annotated[str | None, default("none, the recipe of PARAMS")] = None,
    *,
    data: Annotated[Path | None, required()] = None,
    out: Annotated[Path | None, required()] = None,
    seed: config.Seed = 0,
    start: Annotated[str | None, default("random weights")] = None,
    change: Annotated[Options, Flat] = Options(),  # noqa: B008  it is frozen
    set: Annotated[str | None, default("the recipe's, own where none is named")] = None,
    crop: Annotated[tuple[int, int] | None, default("the recipe's")] = None,
    stage: Literal["chairs", "things", "sintel", "kitti"] = "chairs",
    params: Annotated[Path | None, default("a recipe that ships; with METHOD, params.yaml")] = None,
    section: Annotated[str | None, default("the whole file; with METHOD, flow")] = None,
    template: bool = False,
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains a network on the pairs in the folder DATA; writes model.safetensors and history.csv to OUT.

    Network and recipe come from the file PARAMS; options override single values. With METHOD they are those of a
    network of the pipeline, in `model` and `train` of params.yaml, or in a later `stage` of its `curriculum`. Run the
    same command again to resume an interrupted training from its checkpoint in `scratch`.

    Args:
        method: name of a network in `model` and `train` of the section.
        data: folder of the pairs, or of the published sets that the recipe names.
        out: a new folder, or the unchanged output of an earlier training, which is replaced.
        seed: random seed of the weights, the order of the data, and the augmentation.
        start: network whose weights training starts from, of the same architecture: a shipped name, a folder written by
            training, a weights file (.safetensors), or a released file (.pth).
        set: name of the training set in recipes: own for the pairs in DATA, or chairs, kitti, ...
        crop: height and width of the random crops, in pixels.
        stage: stage of the curriculum of METHOD.
        params: recipe file; `--template` writes one.
        section: section of that file.
        change: values of the recipe to override.
        template: print the shipped recipe, to be edited and passed as `--params`, without training.
        scratch: folder for the checkpoints of interrupted trainings.
    """
    if template:
        print(RECIPE.read_text(), end="")
        return
    from deq_flow.training import train as training

    data, out = asked(data=data), asked(out=out)
    if method is None:
        name, whole = "own", config.load(Training, params or RECIPE, section or "")
    else:
        name, params, section = method, params or PARAMS, section or SECTION
        STUDIES.check(SECTION, params, section)
        place = section if stage == "chairs" else f"{section}.curriculum.{stage}"
        whole = Training(
            model=config.load(Model, params, f"{place}.model.{method}"),
            train=config.load(Train, params, f"{place}.train.{method}"),
        )
    model, recipe = laid_over(whole, change, set, crop)
    distributed.become("deq_flow.cli", sys.argv[1:], recipe.processes)
    if stage != "chairs" and start is None and distributed.rank() == 0:
        before = "--start names the network of the stage before, whose weights the curriculum takes"
        print(f"deq-flow train: {stage} begins with random weights; {before}", file=sys.stderr)
    parameters = {"method": name, "stage": stage, "model": model, "train": recipe}
    first = [] if start is None else [file_of(start)]
    job = "train" if stage == "chairs" else stage
    manifest = data / "manifest.json"
    first += [manifest] if manifest.exists() else []
    files = [] if manifest.exists() else contents(files_of(open_sets(recipe.mix, data)))
    digest = fingerprint({**parameters, "files": files}, *first, package="deq_flow")
    with (
        resumable(scratch, f"flow_{job}-{name}-{seed}", digest, out=out) as folder,
        track(
            f"flow.{job}",
            parameters,
            out=out,
            kind="train",
            case={"method": name, "seed": seed},
            scratch=folder,
            parent_of=None if start is None else file_of(start),
            data=[manifest],
        ) as log,
    ):
        places = {"data": data, "out": out, "scratch": folder}
        metrics = training.train(model, recipe, seed=seed, log=log, start=start, **places)
    if distributed.rank() == 0:
        finish(metrics)


def laid_over(
    whole: Training, change: Options, set: str | None, crop: tuple[int, int] | None
) -> tuple[EquilibriumModel | UnrolledModel, Train]:
    """Network and recipe with what is changed of them.

    Raises:
        ConfigError: they do not fit.
    """
    model, recipe = whole.model, change.of_recipe(whole.train)
    if change.network is not None:
        model, recipe = named(change.network, model, recipe)
    if isinstance(model, EquilibriumModel):
        model = replace(model, layer=change.of_layer(model.layer))
    else:
        change.require_layer(model.name)
        model = config.changed(model, {"steps": change.max_steps})
    if set is not None and len(recipe.mix) > 1:
        raise config.ConfigError(f"--set: the recipe mixes {len(recipe.mix)} sets; change its mix")
    mix = tuple(config.changed(member, {"data": set, "augment.crop": crop}) for member in recipe.mix)
    return model, replace(recipe, mix=mix)
