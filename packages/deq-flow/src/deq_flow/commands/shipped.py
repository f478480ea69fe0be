"""The training of the checkpoint that comes with the package."""

from pathlib import Path

from deq_core.experiment import config
from deq_core.experiment.commands import fingerprint, finish
from deq_core.experiment.tracking.run import track
from deq_flow.networks import SHIPPED
from deq_flow.shipped import Shipped
from deq_flow.shipped import train_shipped as train

RECIPE = SHIPPED["default"] / "recipe.yaml"
"""The numbers that it was made with, which stay with it."""


def train_shipped(
    out: Path,
    seed: int = 0,
    params: Path = RECIPE,
    section: str = "",
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains the network of the shipped checkpoint from nothing, about an hour of one CPU core; writes it to OUT.

    A training that was interrupted resumes from its checkpoint below `scratch`.
    """
    recipe = config.load(Shipped, params, section)
    folder = scratch / f"flow_shipped-{seed}-{fingerprint({'recipe': recipe}, package='deq_flow')}"
    with track("flow.shipped", recipe, out=out, seed=seed, scratch=folder) as log:
        finish(train(recipe, seed=seed, out=out, scratch=folder, log=log))
