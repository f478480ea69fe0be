"""The training of the checkpoint that comes with the package."""

import sys
from pathlib import Path

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import fingerprint, finish
from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.photographs import load_listed
from deq_core.experiment.tracking.run import track
from deq_flow.networks import SHIPPED
from deq_flow.shipped import Shipped
from deq_flow.shipped import train_shipped as train

RECIPE = SHIPPED["default"] / "recipe.yaml"
"""The numbers that it was made with, which stay with it."""
LISTING = "photographs.csv"
"""Beside a recipe: the photographs that its pairs are made of, besides those that come with scikit-image."""


def train_shipped(
    out: Path,
    seed: config.Seed = 0,
    params: Path = RECIPE,
    section: str = "",
    photographs: Path | None = None,
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains the shipped network from scratch and writes it to OUT. This takes many hours on a CPU.

    Run the same command again to resume an interrupted training from its checkpoint in `scratch`.

    Args:
        out: a new folder, or the unchanged output of an earlier training, which is replaced.
        seed: random seed of the weights, the pairs and their order.
        params: recipe file.
        section: section of that file.
        photographs: folder of the files listed in photographs.csv beside the recipe, if there is such a list; CARD.md
            there says where they come from.
        scratch: folder for the checkpoints of interrupted trainings.
    """
    recipe = config.load(Shipped, params, section)
    listing = params.parent / LISTING
    if listing.exists() and photographs is None:
        raise ConfigError(f"{params}: this recipe needs the photographs of {listing}; name their folder, --photographs")
    if photographs is not None and not listing.exists():
        raise ConfigError(f"--photographs: expected {listing} beside the recipe, the list of those to use, got none")
    distributed.become("deq_flow.cli", sys.argv[1:], recipe.processes)
    pictures = () if photographs is None else load_listed(listing, photographs, recipe.photograph_side)
    listed = [] if photographs is None else [listing]
    digest = fingerprint({"recipe": recipe}, *listed, package="deq_flow")
    folder = scratch / f"flow_shipped-{seed}-{digest}"
    with track("flow.shipped", recipe, out=out, kind="train", seed=seed, scratch=folder) as log:
        metrics = train(recipe, seed=seed, out=out, scratch=folder, log=log, photographs=pictures)
    if distributed.rank() == 0:
        finish(metrics)
