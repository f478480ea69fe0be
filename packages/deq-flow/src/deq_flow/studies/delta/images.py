"""Implicit neural representations of an image: training, and quality against work with the delta rule.

Work is that of the hidden layers in all evaluations. Injections and the output layer are computed once for a solve,
with or without the rule, and are not counted.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deq_core as deq
from deq_core.experiment import distributed
from deq_core.experiment.config import Name, Seed
from deq_core.experiment.config.delta import Rule
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.config.recipe import Updates
from deq_core.experiment.data import photographs
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.study.delta import by_threshold, delta_cell, shares, totals
from deq_core.experiment.study.stage import Job, Stage
from deq_core.experiment.tables import Row, numbers
from deq_core.experiment.tracking.run import Log
from deq_core.experiment.training.fit import Losses, fit
from deq_flow.studies.delta.field import DEQField, Representation, coordinates, psnr
from deq_flow.studies.delta.rules import rule_rows
from deq_flow.studies.delta.trajectories import component_rows, explained_variance, lasting, unit_tables


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The image to represent."""

    file: str = "skimage/data/astronaut.png"
    """Path of a photograph inside the installed packages."""
    size: int | None = 64
    """Height and width to which the central square is downscaled; None keeps the whole image."""
    channels: Literal[1, 3] = 3
    """Number of channels: 3 colours, or 1, their mean."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """Training and measurement of representations of one image."""

    picture: Picture
    steps: int
    """Number of updates, each on all pixels."""
    optim: OptimConfig
    evaluations: int
    """Number of evaluations of the solves after training, by plain iteration from zeros."""
    rules: dict[str, Rule]
    """Settings of the delta rule after training, by name."""
    tolerance: float = 0.01
    """Largest change of a settled unit in a step, relative to the root mean square of the state."""
    probes: int = 4096
    """Greatest number of pixels, equally spaced, at which settling is measured."""
    every: Every = field(default_factory=Every)
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.evaluations < 2 or self.probes < 1:
            raise ValueError(f"images: expected at least 2 evaluations and 1 probe, got {self}")


@dataclass(frozen=True)
class Represented:
    """A representation of the image, and its seed."""

    representation: Name
    """A key of the section's `representations`."""
    seed: Seed


def picture(config: Picture) -> Tensor:
    """The image, (h, w, channels) in [-1, 1]."""
    image = photographs.load(config.file)
    if config.size is not None:
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        square = image[top : top + side, left : left + side]
        image = cv2.resize(square, (config.size, config.size), interpolation=cv2.INTER_AREA)
    values = 2 * torch.from_numpy(image).float() / 255 - 1
    return values if config.channels == 3 else values.mean(dim=2, keepdim=True)


class Training(nn.Module):
    """A field, and with `reuse` the state from which the next update starts; a checkpoint has both."""

    def __init__(self, field: DEQField, points: int, *, reuse: bool) -> None:
        super().__init__()
        self.field = field
        self.state: Tensor | None
        self.register_buffer("state", torch.zeros(points, field.width) if reuse else None)


def train(
    config: Images, representation: Representation, *, seed: int, scratch: Path, log: Log
) -> tuple[DEQField, list[dict[str, float]]]:
    """A trained field and its history.

    Each row has the loss (mean squared error of values in [-1, 1]), psnr (before the update), residual (mean), and the
    work of the solve: macs_dense without the delta rule, macs_sparse with it; also by the release's count.
    """
    device = distributed.device(config.device)
    target = picture(config.picture)
    height, width, channels = target.shape
    data = coordinates(height, width).to(device), target.reshape(-1, channels).to(device)
    seed_everything(seed)
    model = Training(DEQField(representation, channels), height * width, reuse=representation.reuse).to(device)
    history = fit(
        model,
        lambda start: repeat(data),
        objective(model.field, representation),
        Updates(steps=config.steps, optim=config.optim, every=config.every),
        seed=seed,
        scratch=scratch,
        log=log,
    )
    return model.field.eval(), history


def objective(field: DEQField, representation: Representation) -> Callable[[nn.Module, tuple[Tensor, Tensor]], Losses]:
    """The mean squared error of `field`, solved densely or with the delta rule."""
    cell, meter = None, None
    if representation.threshold is not None:
        rule = Rule(thresholds=(representation.threshold,))
        cell, meter = delta_cell(field.cell, rule, representation.threshold)

    def losses(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Losses:
        assert isinstance(model, Training)
        points, target = batch
        if meter is not None:
            meter.reset()
        found = model.field(points, model.state, cell)
        if model.state is not None:
            model.state = found.solution.value.detach()
        macs = len(found.solution.trace) * len(points) * model.field.macs
        work = {"macs_dense": macs, "macs_sparse": macs} if meter is None else shares(totals(meter))
        parts = {
            "psnr": psnr(found.values.detach(), target),
            "residual": found.solution.residual.mean(),
            **{name: value for name, value in work.items() if name.endswith(("_dense", "_sparse"))},
        }
        return Losses(F.mse_loss(found.values, target), parts)

    return losses


@torch.no_grad()
def study(field: DEQField, config: Images) -> tuple[dict[str, list[Row]], dict[str, Tensor]]:
    """Tables and images of a trained field.

    Returns:
        Tables: sweep has quality and work by threshold, for threshold 0 after every evaluation; the pixels of a
        chequerboard's two colours are for test and validation. histogram, distribution and components are of the dense
        solve's states at the probes. Images (h, w, channels): target, dense, and those with each rule.
    """
    target = picture(config.picture).to(distributed.device(config.device))
    height, width, channels = target.shape
    flat, injected = target.reshape(-1, channels), field.inject(coordinates(height, width).to(target.device))
    images = {"target": target}
    black = torch.arange(height)[:, None] + torch.arange(width) & 1  # of a chequerboard
    splits = {"validation": black.flatten() == 1, "test": black.flatten() == 0}

    def solved(cell: Callable[..., Tensor]) -> Iterator[Tensor]:
        z = flat.new_zeros(len(flat), field.width)
        with deq.solve_scope():
            for _ in range(config.evaluations):
                z = cell(z, *injected)
                yield z

    def qualities(state: Tensor) -> dict[str, float]:
        values = field.output(state)
        return {split: psnr(values[pixels], flat[pixels]) for split, pixels in splits.items()}

    tables: dict[str, list[Row]] = {"sweep": rule_rows(field.cell, config.rules, solved, qualities, "psnr")}
    images["dense"] = field.output(last(solved(field.cell))).reshape(target.shape)
    for name, rule in config.rules.items():
        for threshold in rule.thresholds:
            cell, _ = delta_cell(field.cell, rule, threshold)
            images[f"{name} {threshold:g}"] = field.output(last(solved(cell))).reshape(target.shape)
    states = watched(field, [part[:: -(-len(flat) // config.probes)] for part in injected], config.evaluations)
    tables |= unit_tables(states, config.tolerance * states[-1].square().mean().sqrt())
    tables["components"] = component_rows(explained_variance(states.flatten(0, 1)))
    return tables, images


def last(states: Iterable[Tensor]) -> Tensor:
    """The last state, without keeping the others."""
    return deque(states, maxlen=1)[0]


def watched(field: DEQField, injected: list[Tensor], evaluations: int) -> Tensor:
    """The states of a dense solve, (evaluations, N, width)."""
    z = torch.zeros_like(injected[0])
    states = []
    for _ in range(evaluations):
        z = field.cell(z, *injected)
        states.append(z)
    return torch.stack(states)


def work_so_far(history: Sequence[Row], column: str) -> np.ndarray:
    """Work of all updates up to each row of a history, whose rows are means over the updates since the row before."""
    return np.cumsum(np.diff(numbers(history, "step"), prepend=0) * numbers(history, column))


def measure(job: Job[Represented, tuple[Images, Representation]]) -> Mapping[str, float]:
    """Trains and studies one representation.

    Returns:
        psnr of the dense solve, steps by which 5, 50 and 95 % of the units have settled for good, number of components
        that explain 99 % of the variance, psnr and savings for each rule and threshold, and if training used the rule,
        its savings train_macs_saved and train_release_saved.
    """
    config, representation = job.settings
    torch.set_num_threads(config.threads)
    network, history = train(config, representation, seed=job.case.seed, scratch=job.scratch, log=job.log)
    tables, images = study(network, config)
    job.trained, job.arrays["images"] = (network, representation), images
    job.tables["history"].extend({**row} for row in history)
    job.tables |= tables
    metrics = {
        "psnr": numbers([row for row in tables["sweep"] if row["threshold"] == 0], "psnr")[-1],
        **lasting(tables["distribution"]),
        "components": 1.0 + sum(value < 0.99 for value in numbers(tables["components"], "cumulative")),
        **by_threshold(tables["sweep"], "psnr"),
    }
    if representation.threshold is not None:
        for count in ("macs", "release"):
            sparse, dense = (work_so_far(job.tables["history"], f"{count}_{kind}")[-1] for kind in ("sparse", "dense"))
            metrics[f"train_{count}_saved"] = 1 - float(sparse / dense)
    return metrics


IMAGES = Stage(
    name="delta.inr",
    section="delta",
    case=Represented,
    settings=lambda section, case: (
        section.load(Images, "images"),
        section.load(Representation, f"representations.{case.representation}"),
    ),
    run=measure,
    trains=True,
)
