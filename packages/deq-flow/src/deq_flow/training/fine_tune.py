"""Fine-tuning of a trained network on your own pairs, with its error before and after."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from deq_core.experiment.config import plain
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.data.image_headers import image_size
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.data.released import located
from deq_core.experiment.files import write_json
from deq_core.experiment.tables import write_rows
from deq_core.experiment.tracking.run import Log
from deq_core.nn import RandomSegments
from deq_flow.data.augment import AugmentConfig
from deq_flow.data.held_out import HeldOut, held_out, split
from deq_flow.data.mixes import READERS, MemberConfig, TrainingSet
from deq_flow.data.samples import FlowSample
from deq_flow.data.sets import own
from deq_flow.data.sets.layout import Pairs
from deq_flow.models import DEQFlow
from deq_flow.networks import Network, described, load
from deq_flow.params import Coarser, Contraction, Stabilise, Train
from deq_flow.training.train import measure_of, train_network

LARGEST = (96, 128)
"""Greatest height and width of the default crop, as in the last phase of the shipped network's training."""
SMALLEST = 32
"""Least side of a crop; a network also runs at half of it."""
PIXEL = 15
"""Bytes of a pair in memory for each pixel of a frame."""
MEMORY = 2**30
"""Greatest size, in bytes, of pairs that are kept in memory; larger sets are read from disk in every epoch."""


def _settled() -> Stabilise:
    """A `Stabilise` in effect from the first step on, since the network has its fixed point already."""
    return Stabilise(begin=0.0, segments=RandomSegments(ramp=0.0), contraction=Contraction(begin=0.0, ramp=0.0))


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """The recipe of a fine-tuning. Size, solver, leak and scales are those stored with the network."""

    data: TrainingSet = "own"
    """Name of a training set."""
    steps: int = 300
    batch_size: int = 8
    crop: tuple[int, int] | None = None
    """Height and width of the crop, pixels; None is 96x128, or less for smaller frames."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(lr=1e-4, weight_decay=1e-4, schedule="cosine", warmup=20, clip=1.0)
    )
    held_out: HeldOut = field(default_factory=HeldOut)
    scale: tuple[float, float] = (-0.2, 0.4)
    """Range of the base-2 logarithm of the scale; this and the following fields are as in `AugmentConfig`."""
    stretch: float = 0.1
    flip_chance: tuple[float, float] = (0.5, 0.0)
    eraser_chance: float = 0.2
    eraser_size: tuple[int, int] = (8, 24)
    sparse: bool | None = None
    """Whether flow is sparse; None is true if it is in KITTI's format."""
    gamma: float = 0.8
    """Weight of each prediction relative to the next one in the sequence loss."""
    freeze_batch_norm: bool = True
    """Keeps the network's statistics, because those of a few pairs are worse."""
    stabilise: Stabilise | None = field(default_factory=_settled)
    """Training of a network with a leak at its fixed point. One without is trained by its own solve."""
    coarser: Coarser | None = field(default_factory=Coarser)
    """Training of a network with scales at two of them."""
    every: Every = field(default_factory=lambda: Every(log=10, checkpoint=50))
    workers: int = 0
    """Number of processes that load and augment data."""
    threads: int = 1
    """Number of CPU threads; results are bitwise equal only for an equal number."""

    def __post_init__(self) -> None:
        if self.data not in READERS:
            raise ValueError(f"data: expected one of {', '.join(READERS)}, got {self.data!r}")
        if min(self.steps, self.batch_size, self.threads) < 1:
            raise ValueError(
                f"expected steps, batch_size and threads of at least 1, got {self.steps}, {self.batch_size} and "
                f"{self.threads}"
            )
        if self.crop is not None and min(self.crop) < SMALLEST:
            raise ValueError(f"crop: expected at least {SMALLEST} pixels high and wide, got {self.crop}")


def fitted(recipe: FineTune, data: Path) -> FineTune:
    """The recipe with crop and `sparse` filled in from the pairs.

    Raises:
        LayoutError: a file is missing, or there are fewer than two pairs.
        FileFormatError: a file is damaged, or frames and flow of a pair differ in size, or are smaller than the crop.
    """
    root = located(data)
    pairs = READERS[recipe.data](root)
    if len(pairs) < 2:
        raise LayoutError(f"{root}: expected at least 2 pairs, one to train on and one to measure, got {len(pairs)}")
    # published sets were checked when they were fetched, and to check them again may take hours
    if recipe.data in own.SETS and (problems := list(own.disagreements(root))):
        command = f"deq-flow check-data {recipe.data} --data {data}"
        raise FileFormatError(f"{problems[0]} ({len(problems)} such problems; `{command}` lists all)")
    sizes = {pair.first: image_size(pair.first) for pair in pairs.files}
    height, width = (min(size[axis] for size in sizes.values()) for axis in (0, 1))
    crop = recipe.crop or (min(LARGEST[0], height // 8 * 8), min(LARGEST[1], width // 8 * 8))
    for path, size in sizes.items():
        if min(size) < SMALLEST or size[0] < crop[0] or size[1] < crop[1]:
            least = f"{max(crop[0], SMALLEST)}x{max(crop[1], SMALLEST)}"
            raise FileFormatError(
                f"{path}: expected frames of at least {least} pixels (height x width), the size of the crop, got "
                f"{size[0]}x{size[1]}; choose a smaller --crop, of {SMALLEST} or more, or leave such pairs out"
            )
    sparse = recipe.sparse
    if sparse is None:
        sparse = any(path.suffix.lower() == ".png" for pair in pairs.files for path in pair.beside[:1])
    return replace(recipe, crop=crop, sparse=sparse)


def fine_tune(
    start: Path | str,
    recipe: FineTune,
    *,
    seed: int,
    data: Path,
    device: Literal["cpu", "cuda"],
    out: Path,
    scratch: Path,
    log: Log,
) -> dict[str, float]:
    """Fine-tunes a network and writes it to `out` as `train` does, with recipe.json and held_out.csv beside it.

    The history begins with step 0, before the first update: before_epe, before_residual and before_change on the
    held-out pairs, as in `train.measure_of`, and zero_epe, the error of zero flow on them.

    Args:
        start: checkpoint, as in `networks.load`.
        recipe: recipe that `fitted` returned for these data.
        seed: seed of the order and augmentation of the data.
        data: folder of the set, or of the manifest of its place.
        device: device of the training.
        out: folder, which is created complete at the end.
        scratch: folder of the checkpoint from which an interrupted training resumes.
        log: receives every logged step.

    Returns:
        The latest finite value of each quantity in the history.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
        LayoutError, FileFormatError: data are missing or damaged.
    """
    torch.set_num_threads(recipe.threads)
    pairs = READERS[recipe.data](located(data))
    network = load(start).to(device)
    held = held_out([pairs], recipe.held_out)
    before = {name.replace("val_", "before_"): value for name, value in measure_of(held)(network).items()}
    before["zero_epe"] = sum(length(held[index]) for index in range(len(held))) / len(held)
    log(before, 0)

    def beside(folder: Path) -> None:
        write_json(folder / "recipe.json", plain(recipe))
        write_rows(folder / "held_out.csv", [{"name": held[index].name} for index in range(len(held))])

    return train_network(
        network,
        described(start),
        training(recipe, network, pairs, device),
        seed=seed,
        data=data,
        out=out,
        scratch=scratch,
        log=log,
        before=before,
        beside=beside,
    )


def training(recipe: FineTune, network: Network, pairs: Pairs, device: Literal["cpu", "cuda"]) -> Train:
    """The recipe of the training of this network on these pairs."""
    assert recipe.crop is not None, "a recipe is fitted first"
    trained, _ = split(pairs, recipe.held_out.share)
    augment = AugmentConfig(
        crop=recipe.crop,
        scale=recipe.scale,
        stretch=recipe.stretch,
        flip_chance=recipe.flip_chance,
        eraser_chance=recipe.eraser_chance,
        eraser_size=recipe.eraser_size,
        sparse=bool(recipe.sparse),
        margin=1,
    )
    again = math.ceil(recipe.batch_size / len(trained))  # fewer pairs than a batch are repeated to fill it
    return Train(
        mix=(MemberConfig(data=recipe.data, augment=augment, weight=again),),
        held_out=recipe.held_out,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        optim=recipe.optim,
        every=recipe.every,
        gamma=recipe.gamma,
        freeze_batch_norm=recipe.freeze_batch_norm,
        stabilise=recipe.stabilise if has_fixed_point(network) else None,
        coarser=recipe.coarser if network.scales is not None else None,
        cache=again * sum(bytes_of(pairs, index) for index in trained) <= MEMORY,
        device=device,
        workers=recipe.workers,
        threads=recipe.threads,
    )


def has_fixed_point(network: Network) -> bool:
    """Whether a network is an equilibrium network with a leak, and so has a fixed point; see `config.Equilibrium`."""
    return isinstance(network, DEQFlow) and network.equilibrium.leak > 0


def bytes_of(pairs: Pairs, index: int) -> int:
    """Size of a pair in memory, bytes."""
    return PIXEL * math.prod(image_size(pairs.files[index].first))


def length(sample: FlowSample) -> float:
    """Mean length of a pair's known flow, pixels."""
    return float(sample.flow.norm(dim=0)[sample.valid].mean())
