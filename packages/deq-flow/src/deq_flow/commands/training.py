"""The command that trains."""

import sys
from pathlib import Path
from typing import Literal

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import PARAMS, fingerprint, finish, resumable
from deq_core.experiment.tracking.run import track
from deq_flow.commands.study import STUDIES
from deq_flow.data.mixes import contents, open_sets
from deq_flow.networks import file_of
from deq_flow.params import Model, Train

SECTION = "flow"


def train(
    method: str,
    data: Path,
    out: Path,
    seed: int = 0,
    stage: Literal["chairs", "things", "sintel", "kitti"] = "chairs",
    start: str | None = None,
    params: Path = PARAMS,
    section: str = SECTION,
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains the network that `method` names; writes model.safetensors and history.csv.

    The network and recipe are those of the section's `model` and `train`, or of a later `stage` in its `curriculum`,
    which takes its first weights from `--start`. A training that was interrupted resumes from its checkpoint below
    `scratch`.

    Args:
        method: a name of the section's `model` and `train`.
        data: folder of the data sets.
        out: a new folder, or one of an earlier training as it left it, which is replaced.
        seed: of the weights, the order of the data, and its augmentation.
        stage: of the curriculum.
        start: the network whose weights it begins with, of the same sizes: a shipped name, a folder that training
            wrote, a file of weights (.safetensors), or a released file (.pth). By default weights are random.
        params: file with the parameters.
        section: where in that file.
        scratch: folder of the checkpoints of interrupted trainings.
    """
    from deq_flow import train as training

    STUDIES.check(SECTION, params, section)
    place = section if stage == "chairs" else f"{section}.curriculum.{stage}"
    model = config.load(Model, params, f"{place}.model.{method}")
    recipe = config.load(Train, params, f"{place}.train.{method}")
    distributed.become("deq_flow.cli", sys.argv[1:], recipe.processes)
    if stage != "chairs" and start is None and distributed.rank() == 0:
        before = "--start names the network of the stage before, whose weights the curriculum takes"
        print(f"deq-flow train: {stage} begins from random weights; {before}", file=sys.stderr)
    parameters = {"method": method, "stage": stage, "model": model, "train": recipe}
    first = [] if start is None else [file_of(start)]
    job = "train" if stage == "chairs" else stage
    name = f"flow_{job}-{method}-{seed}"
    manifest = data / "manifest.json"
    first += [manifest] if manifest.exists() else []
    files = [] if manifest.exists() else contents(open_sets(recipe.mix, data))
    digest = fingerprint({**parameters, "files": files}, *first, package="deq_flow")
    with (
        resumable(scratch, name, digest) as folder,
        track(
            f"flow.{job}",
            parameters,
            out=out,
            kind="train",
            case={"method": method, "seed": seed},
            scratch=folder,
            parent_of=None if start is None else file_of(start),
            data=[manifest],
        ) as log,
    ):
        places = {"data": data, "out": out, "scratch": folder}
        metrics = training.train(model, recipe, seed=seed, log=log, start=start, **places)
    if distributed.rank() == 0:
        finish(metrics)
