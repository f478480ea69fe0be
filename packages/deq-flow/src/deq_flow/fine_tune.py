"""Fine-tuning: a network that is there already, trained on with pairs of one's own, and measured before and after."""

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
from deq_flow.train import measure_of, train_network

LARGEST = (96, 128)
"""Height and width of a crop that was not asked for, at most: what the shipped network was trained on last."""
SMALLEST = 32
"""Side of a crop at least: at half its size a network still takes it."""
PIXEL = 15
"""Bytes of a pair in memory for each pixel of a frame."""
MEMORY = 2**30
"""Bytes of pairs that are kept in memory; of more, each is read when its turn comes."""


def _settled() -> Stabilise:
    """From the first step on, since the network has found its fixed point already."""
    return Stabilise(begin=0.0, segments=RandomSegments(ramp=0.0), contraction=Contraction(begin=0.0, ramp=0.0))


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Every number of a fine-tuning. Size, solver, leak and scales of the network are those that are stored with it."""

    data: TrainingSet = "own"
    """A set that trainings know."""
    steps: int = 300
    batch_size: int = 8
    crop: tuple[int, int] | None = None
    """Height and width that pairs are cropped to, pixels; None is 96x128, less where frames are smaller."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(lr=1e-4, weight_decay=1e-4, schedule="cosine", warmup=20, clip=1.0)
    )
    held_out: HeldOut = field(default_factory=HeldOut)
    scale: tuple[float, float] = (-0.2, 0.4)
    """Range of the base-2 logarithm of the scale; this and what follows is as in `AugmentConfig`."""
    stretch: float = 0.1
    flip_chance: tuple[float, float] = (0.5, 0.0)
    eraser_chance: float = 0.2
    eraser_size: tuple[int, int] = (8, 24)
    sparse: bool | None = None
    """None is true where flow is in KITTI's format."""
    gamma: float = 0.8
    """Weight of an earlier prediction against the next one in the sequence loss."""
    freeze_batch_norm: bool = True
    """Keeps the statistics that the network has: those of a few pairs are worse."""
    stabilise: Stabilise | None = field(default_factory=_settled)
    """How a network with a leak is kept at a fixed point. One without has none, and is trained by its own solve."""
    coarser: Coarser | None = field(default_factory=Coarser)
    """How often a network with scales sees a batch at half its size first."""
    every: Every = field(default_factory=lambda: Every(log=10, checkpoint=50))
    workers: int = 0
    """Processes that load and augment data."""
    threads: int = 1
    """CPU threads; part of the recipe because results are bitwise equal only at an equal count."""

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
    """The recipe with what it leaves to the pairs: their crop, and whether their flow is sparse.

    Raises:
        LayoutError: a file is missing, or there are fewer than two pairs.
        FileFormatError: a file is damaged, or frames and flow of a pair differ in size, or are smaller than the crop.
    """
    root = located(data)
    pairs = READERS[recipe.data](root)
    if len(pairs) < 2:
        raise LayoutError(f"{root}: expected at least 2 pairs, one to train on and one to measure, got {len(pairs)}")
    # a published set is checked when it is fetched, and may take hours to look through
    if recipe.data in own.SETS and (problems := list(own.disagreements(root))):
        command = f"deq-flow check-data {recipe.data} --root {data}"
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
    """Trains a network on and writes it to `out` as `train` does, with recipe.json and held_out.csv beside it.

    The history begins with step 0, before the first update: before_epe, before_residual and before_change of the pairs
    that are held out, as `train.measure_of` has them, and zero_epe, the error of zero flow on them.

    Args:
        start: the network, as `networks.load` names it.
        recipe: as `fitted` made it for these data.
        seed: of the order of the data and its augmentation.
        data: folder of the set, or of the manifest that says where it is.
        device: that it is trained on.
        out: folder that appears, whole, when training is done.
        scratch: folder of the checkpoint that an interrupted training resumes from.
        log: receives every logged step.

    Returns:
        The newest value of everything in the history.

    Raises:
        CheckpointError: the network is missing or damaged.
        LayoutError, FileFormatError: the data are.
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
    """The recipe as one of a training, of this network on these pairs."""
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
    again = math.ceil(recipe.batch_size / len(trained))  # of fewer pairs than a batch each comes several times
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
    """Whether a network has a fixed point to stay at: an equilibrium network with a leak; see `config.Equilibrium`."""
    return isinstance(network, DEQFlow) and network.equilibrium.leak > 0


def bytes_of(pairs: Pairs, index: int) -> int:
    """Bytes that a pair takes in memory."""
    return PIXEL * math.prod(image_size(pairs.files[index].first))


def length(sample: FlowSample) -> float:
    """Mean length of a pair's known flow, pixels."""
    return float(sample.flow.norm(dim=0)[sample.valid].mean())
