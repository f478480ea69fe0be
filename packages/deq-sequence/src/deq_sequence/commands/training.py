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
        track("sequence.train", parameters, out=out, seed=seed, scratch=folder) as log,
    ):
        metrics = training.train(model, recipe, seed=seed, data=data, out=out, scratch=folder, log=log)
    if distributed.rank() == 0:
        finish(metrics)
