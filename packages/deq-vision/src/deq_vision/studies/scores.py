"""Metrics of networks and baselines on the same split, and after each evaluation of f."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from deq_core.experiment import distributed
from deq_core.experiment.config import Name, Seed
from deq_core.experiment.data.released import located
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.study.stage import Job, Section, Stage
from deq_core.experiment.tables import numbers
from deq_vision.baselines.params import Baseline
from deq_vision.evaluate import Evaluate, Evaluation, evaluate
from deq_vision.models.build import load
from deq_vision.params import Task


@dataclass(frozen=True)
class Trained:
    """A network of the pipeline."""

    experiment: Name
    seed: Seed


@dataclass(frozen=True)
class Peers:
    """The baselines of an experiment, which have no seed."""

    experiment: Name


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A task, and the settings of its evaluation."""

    task: Task
    evaluate: Evaluate


@dataclass(frozen=True, kw_only=True)
class Comparison(Measurement):
    """A measurement with baselines."""

    baselines: dict[str, Baseline]


def measurement(section: Section, case: Trained | Peers) -> dict[str, Any]:
    """The fields of a `Measurement`."""
    return {
        "task": section.load(Task, f"experiments.{case.experiment}.task"),
        "evaluate": section.load(Evaluate, f"evaluate.{case.experiment}"),
    }


def comparison(section: Section, case: Peers) -> Comparison:
    """The baselines of an experiment, with the task and evaluation of its networks."""
    wanted = section.load(dict[str, Baseline], f"baselines.{case.experiment}")
    return Comparison(**measurement(section, case), baselines=wanted)


def measure(job: Job[Trained, Measurement]) -> Mapping[str, float]:
    """Measures a network after its solve and, in the table `steps`, after each evaluation of a longer one.

    Raises:
        LayoutError: the data set is missing or incomplete.
        ConfigError: its number of classes differs from that of the network's head.
        NonFiniteError: an output for an image is not finite; the tables `steps` and `score` then cover the batches
            before it.
    """
    task, config = job.settings.task, job.settings.evaluate
    torch.set_num_threads(config.threads)
    network = load(job.network).to(distributed.device(config.device))
    found = Evaluation(task, config)
    try:
        metrics, rows = evaluate(network, task, config, located(job.data), source=job.network, found=found)
    except NonFiniteError:
        job.tables.update(found.tables())
        raise
    for row in rows:
        values = {f"{key}_at_step": numbers([row], key)[0] for key in row if key != "step"}
        job.log(values, int(numbers([row], "step")[0]))
    job.tables["steps"] = rows
    return metrics


def compare(job: Job[Peers, Comparison]) -> Mapping[str, Mapping[str, float]]:
    """Fits the baselines to the training split and returns {baseline: {metric: value}}.

    Raises:
        LayoutError: the data set is missing or incomplete.
    """
    from deq_vision.baselines import evaluate as baselines  # slow to import, and other stages do not need it

    settings, root = job.settings, located(job.data)
    torch.set_num_threads(settings.evaluate.threads)
    return {
        name: baselines.measure(baseline, settings.task, settings.evaluate, root)
        for name, baseline in settings.baselines.items()
    }


EVALUATE = Stage(
    name="vision.evaluate",
    section="vision",
    case=Trained,
    settings=lambda section, case: Measurement(**measurement(section, case)),
    run=measure,
)
BASELINES = Stage(name="vision.baselines", section="vision", case=Peers, settings=comparison, run=compare)
