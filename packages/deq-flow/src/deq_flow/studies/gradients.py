"""Effects of inexact gradients and sparse fixed-point correction (Bai et al., CVPR 2022) on training.

A network is trained with each gradient, once with correction and once with the last state alone supervised. Initial
weights, batches, updates and evaluation are the same.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from deq_core.experiment import distributed
from deq_core.experiment.config import Name, Names, Seed, Seeds, require_keys
from deq_core.experiment.config.layer import Adjoint
from deq_core.experiment.data.released import located
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.stage import Job, Section, Stage
from deq_core.experiment.tables import Row, numbers, read_rows
from deq_core.experiment.tracking.log import ignore
from deq_flow.data.samples import SampleSet
from deq_flow.evaluation.evaluate import Evaluation, evaluate, labelled_sets, summary
from deq_flow.evaluation.sets import SETS
from deq_flow.inference import Estimator
from deq_flow.networks import Network, build_network
from deq_flow.params import EquilibriumModel, Train
from deq_flow.studies.table import Evaluate, inference, network_method
from deq_flow.training.train import train_network


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """Adjoints of the supervised states."""

    last: Adjoint
    """Adjoint of the last state of a solve."""
    corrected: Adjoint
    """Adjoint of the corrected states, which are not fixed points yet. In the release only the last state may have the
    implicit gradient; the others have phantom steps."""

    def adjoints(self, model: EquilibriumModel) -> tuple[Any, ...]:
        """The adjoint of each supervised state of a network, in order.

        Raises:
            ValueError: an adjoint does not fit the network's solver.
        """
        layers = [replace(model.layer, adjoint=each) for each in (self.corrected, self.last)]
        corrected, last = (layer.choices()["adjoint"] for layer in layers)
        return (*(corrected for _ in model.correction), last)


@dataclass(frozen=True, kw_only=True)
class GradientStudy:
    """Settings of the study of gradients and corrections."""

    methods: Names
    """Keys of `gradient` to train with; the others are compared to the first."""
    seeds: Seeds
    gradient: dict[Name, Gradient]
    model: EquilibriumModel
    """Network with corrections; it is also trained without them. Each gradient replaces its adjoint."""
    train: Train
    measure: Evaluate

    def __post_init__(self) -> None:
        require_keys("methods", self.methods, "gradient", self.gradient)
        if not self.methods or not self.seeds:
            raise ValueError("methods, seeds: expected one of each at least")
        if not self.model.correction:
            raise ValueError("model.correction: expected steps whose states are supervised besides the last, got none")
        for gradient in self.gradient.values():
            gradient.adjoints(self.model)
        if self.train.processes > 1 or self.train.stabilise is not None:
            raise ValueError(
                "train: expected one process, in which a job trains its networks one after the other, and stabilise: "
                f"null, which has states of its own to supervise; got processes {self.train.processes} and "
                f"{self.train.stabilise}"
            )


@dataclass(frozen=True)
class Settings:
    """Settings of the training and evaluation with one gradient."""

    seeds: Seeds
    gradient: Gradient
    model: EquilibriumModel
    train: Train
    measure: Evaluate


GradientJob = Job[Measured, Settings]
"""Job of all networks of a gradient, whose name is the case's network."""


def settings(section: Section, case: Measured) -> Settings:
    """The settings of a case, from the section."""
    return Settings(
        section.load(tuple[Seed, ...], "gradients.seeds"),
        section.load(Gradient, f"gradients.gradient.{case.network}"),
        section.load(EquilibriumModel, "gradients.model"),
        section.load(Train, "gradients.train"),
        section.load(Evaluate, "gradients.measure"),
    )


def variant(model: EquilibriumModel, *, corrected: bool) -> EquilibriumModel:
    """The network with its corrections, or without them."""
    return model if corrected else replace(model, correction=(), chaining="sliced")


def measure(job: GradientJob) -> Mapping[str, Any]:
    """Trains and measures the networks of a gradient, with and without correction, from each seed.

    The tables are `history`, `samples`, by pair, and `steps`, by set and iteration, each of all networks.

    Returns:
        By supervision, `last` or `corrected`, and seed: error and residual of each set at the number of iterations of
        test time, and the largest finite gradient norm in the history, whose rows are means over the updates since the
        row before; for a network with loss or flow that is not finite, only `diverged`.

    Raises:
        ValueError: the sweep is shorter than the number of iterations of test time.
    """
    sets = labelled_sets(located(job.data), job.settings.measure.sets)
    metrics: dict[str, dict[str, dict[str, Any]]] = {"last": {}, "corrected": {}}
    for (form, runs), seed in product(metrics.items(), job.settings.seeds):
        model, name = variant(job.settings.model, corrected=form == "corrected"), f"{form}-{seed}"
        try:
            network, history = trained(job, model, seed, job.scratch / name)
            found, runs[str(seed)] = tested(network, sets, job.settings.measure)
        except NonFiniteError as error:
            print(f"{job.case.network}, {name}: {error}", file=sys.stderr)
            runs[str(seed)] = {"diverged": 1.0}
            continue
        runs[str(seed)]["gradient_norm"] = max(filter(math.isfinite, numbers(history, "gradient_norm")))
        for table, rows in (("history", history), ("samples", found.samples), ("steps", found.steps)):
            job.tables[table] += [{"supervised": form, "seed": seed, **row} for row in rows]
    return metrics


def trained(job: GradientJob, model: EquilibriumModel, seed: Seed, folder: Path) -> tuple[Network, list[Row]]:
    """A trained network, in evaluation mode on the device of evaluation, and the history of its training."""
    config = job.settings
    seed_everything(seed)
    network = build_network(model, adjoint=config.gradient.adjoints(model))
    places = {"data": job.data, "out": folder / "network", "scratch": folder, "log": ignore}
    train_network(network, model, config.train, seed=seed, **places)
    history = read_rows(folder / "network" / "history.csv")
    for row in history:
        job.log({f"{folder.name}.{key}": numbers([row], key)[0] for key in row}, int(numbers([row], "step")[0]))
    torch.set_num_threads(config.measure.threads)
    return network.to(distributed.device(config.measure.device)).eval(), history


def tested(network: Network, sets: Mapping[str, SampleSet], config: Evaluate) -> tuple[Evaluation, dict[str, Any]]:
    """The evaluation of a network on all sets, and its error and residual on each at test time."""
    found, steps = Evaluation(), Estimator(network, inference(config)).steps
    if config.sweep < steps:
        raise ValueError(f"measure.sweep: expected at least the {steps} iterations at test time, got {config.sweep}")
    for name, pairs in sets.items():
        method = network_method(network, config, padding=SETS[name].padding)
        evaluate(method, {name: pairs}, batch_size=config.batch_size, found=found)
    errors = summary(found.samples)
    residuals = {row["set"]: numbers([row], "residual")[0] for row in found.steps if row["step"] == steps}
    return found, {name: {"epe": errors[name]["epe"], "residual": residuals[name]} for name in sets}


GRADIENTS = Stage(name="flow.gradients", section="flow", case=Measured, settings=settings, run=measure, trains=True)
