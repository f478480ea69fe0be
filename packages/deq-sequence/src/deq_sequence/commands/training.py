"""The command that trains."""

import sys
from pathlib import Path

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import PARAMS, fingerprint, finish, resumable
from deq_core.experiment.tracking.run import track
from deq_sequence.commands.study import STUDIES
from deq_sequence.params import Model, Train

SECTION = "sequence"


def train(
    method: str,
    data: Path,
    out: Path,
    seed: int = 0,
    params: Path = PARAMS,
    section: str = SECTION,
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains the model that `method` names on prepared texts; writes model.safetensors and history.csv to `out`.

    A training that was interrupted resumes from its checkpoint below `scratch`.

    Args:
        method: a name of the section's `model` and `train`.
        data: folder of the prepared texts.
        out: a new folder, or one of an earlier training as it left it, which is replaced.
        seed: of the weights, the shifts of the text, and everything drawn in training.
        params: file with the parameters.
        section: where in that file.
        scratch: folder of the checkpoints of interrupted trainings.
    """
    from deq_sequence import train as training

    STUDIES.check("sequence", params, section)
    model = config.load(Model, params, f"{section}.model.{method}")
    recipe = config.load(Train, params, f"{section}.train.{method}")
    distributed.become("deq_sequence.cli", sys.argv[1:], recipe.processes)
    parameters = {"method": method, "model": model, "train": recipe}
    digest = fingerprint(parameters, data / "manifest.json", package="deq_sequence")
    with (
        resumable(scratch, f"sequence_train-{method}-{seed}", digest) as folder,
        track(
            "sequence.train",
            parameters,
            out=out,
            case={"method": method, "seed": seed},
            scratch=folder,
            data=[data / "manifest.json"],
        ) as log,
    ):
        metrics = training.train(model, recipe, seed=seed, data=data, out=out, scratch=folder, log=log)
    if distributed.rank() == 0:
        finish(metrics)
