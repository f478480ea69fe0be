"""The command that trains models."""

import sys
from pathlib import Path

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import PARAMS, fingerprint, finish, resumable
from deq_core.experiment.tracking.run import track
from deq_vision.commands.study import STUDIES
from deq_vision.models.build import file_of
from deq_vision.params import Experiment

SECTION = "vision"


def train(
    experiment: str,
    data: Path,
    out: Path,
    seed: int = 0,
    params: Path = PARAMS,
    section: str = SECTION,
    scratch: Path = Path(".scratch"),
    start: str | None = None,
) -> None:
    """Trains the model of the experiment that `experiment` names; writes model.safetensors and history.csv to `out`.

    A training that was interrupted resumes from its checkpoint below `scratch`.

    Args:
        experiment: a name of the section's `experiments`.
        data: folder of the data sets.
        out: a new folder, or one of an earlier training as it left it, which is replaced.
        seed: of the weights, the order of the data, and its augmentation.
        params: file with the parameters.
        section: where in that file.
        scratch: folder of the checkpoints of interrupted trainings.
        start: the network whose weights it begins with: a shipped name, a folder that training wrote, a file of weights
            (.safetensors), or a released file (.pth), as the released Cityscapes models began as ImageNet's. A head of
            another task is left out. By default weights are random.
    """
    from deq_vision import train as training

    STUDIES.check("vision", params, section)
    settings = config.load(Experiment, params, f"{section}.experiments.{experiment}")
    distributed.become("deq_vision.cli", sys.argv[1:], settings.recipe.processes)
    name = f"vision_train-{experiment}-{seed}"
    manifest = data / settings.task.folder / "manifest.json"
    files = [manifest] if manifest.exists() else []  # released sets have none
    first = None if start is None else file_of(start)
    files += [] if first is None else [first]
    digest = fingerprint({"experiment": settings}, *files, package="deq_vision")
    with (
        resumable(scratch, name, digest) as folder,
        track(
            "vision.train",
            settings,
            out=out,
            case={"experiment": experiment, "seed": seed},
            scratch=folder,
            parent_of=first,
            data=[manifest],
        ) as log,
    ):
        metrics = training.train(settings, seed=seed, data=data, out=out, scratch=folder, log=log, start=start)
    if distributed.rank() == 0:
        finish(metrics)
