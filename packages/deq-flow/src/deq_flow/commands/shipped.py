"""The training of the checkpoint that comes with the package."""

import sys
from pathlib import Path
from typing import Annotated

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import default, fingerprint, finish
from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.photographs import load_folder, load_listed
from deq_core.experiment.media.image_folder import IMAGES, image_files
from deq_core.experiment.tracking.run import track
from deq_flow.networks import SHIPPED
from deq_flow.training.shipped import Shipped
from deq_flow.training.shipped import train_shipped as train

RECIPE = SHIPPED["default"] / "recipe.yaml"
"""The numbers that it was made with, which stay with it."""
LISTING = "photographs.csv"
"""Beside a recipe: the photographs that its pairs are made of, besides those that come with scikit-image."""


def train_shipped(
    out: Path,
    seed: config.Seed = 0,
    params: Path = RECIPE,
    section: str = "",
    photographs: Annotated[Path | None, default("none")] = None,
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains the shipped network from scratch and writes it to OUT. This takes many hours on a CPU.

    Run the same command again to resume an interrupted training from its checkpoint in `scratch`.

    Args:
        out: a new folder, or the unchanged output of an earlier training, which is replaced.
        seed: random seed of the weights, the pairs and their order.
        params: recipe file.
        section: section of that file.
        photographs: folder of the photographs that training pairs are made of, besides those that come with
            scikit-image. If photographs.csv is beside the recipe, the files that it lists (CARD.md there says where
            they come from); else all images in the folder.
        scratch: folder for the checkpoints of interrupted trainings.
    """
    recipe = config.load(Shipped, params, section)
    listing = params.parent / LISTING
    if listing.exists() and photographs is None:
        raise ConfigError(f"{params}: this recipe needs the photographs of {listing}; name their folder, --photographs")
    files = [listing] if listing.exists() else own_photographs(photographs)
    distributed.become("deq_flow.cli", sys.argv[1:], recipe.processes)
    if photographs is not None and listing.exists():
        pictures = load_listed(listing, photographs, recipe.photograph_side)
    else:
        pictures = load_folder(files, recipe.photograph_side)
    digest = fingerprint({"recipe": recipe}, *files, package="deq_flow")
    folder = scratch / f"flow_shipped-{seed}-{digest}"
    with track("flow.shipped", recipe, out=out, kind="train", seed=seed, scratch=folder) as log:
        metrics = train(recipe, seed=seed, out=out, scratch=folder, log=log, photographs=pictures)
    if distributed.rank() == 0:
        finish(metrics)


def own_photographs(folder: Path | None) -> list[Path]:
    """The images of a folder; none without a folder.

    Raises:
        ConfigError: there is no such folder, or it has no images.
    """
    if folder is None:
        return []
    if not folder.is_dir() or not (found := image_files(folder)):
        raise ConfigError(f"--photographs: expected a folder of images ({', '.join(IMAGES)}), got {folder}")
    return list(found)
