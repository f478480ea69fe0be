"""Training of one model: unrolled first, then through the equilibrium, with a Jacobian penalty."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import deq_core as deq
from deq_core.experiment import distributed
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.data.released import located
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.tracking.run import Log
from deq_core.experiment.training.fit import Losses, fit, keep, numbered
from deq_vision.detection.params import Detect
from deq_vision.finite import require_finite
from deq_vision.models.build import file_of
from deq_vision.models.compat.convert import load_released
from deq_vision.models.mdeq import MDEQ
from deq_vision.params import Experiment, Recipe
from deq_vision.tally import tally
from deq_vision.tasks import (
    Scored,
    batches_in_order,
    headline,
    loss,
    require_head,
    training_batches,
    training_metric,
)

HEAD = "head."


def train(
    experiment: Experiment,
    *,
    seed: int,
    data: Path,
    out: Path,
    scratch: Path,
    log: Log,
    start: Path | str | None = None,
) -> dict[str, float]:
    """Trains a model and writes model.safetensors, config.json, history.csv and metrics.json to `out`.

    Args:
        experiment: task, model and recipe.
        seed: seed of the weights, the order of the data, its augmentation and everything drawn in training.
        data: folder of the data sets.
        out: output folder; appears, complete, when training is done.
        scratch: folder of the checkpoint from which an interrupted training resumes.
        log: receives every logged step.
        start: model whose weights training starts from, including the head's if they fit; a path or name as for
            `models.build.load`. Its solver and gradient may differ.

    Returns:
        The latest finite value of every quantity in the history.

    Raises:
        LayoutError: the data set is missing or incomplete.
        ConfigError: its number of classes differs from that of the model's head.
        CheckpointError: the weights of `start`, other than the head's, do not fit this model.
    """
    task, recipe, data = experiment.task, experiment.recipe, located(data)
    for split in ("train", task.validation_split):
        require_head(task, experiment.model.architecture.head, data, split)
    torch.set_num_threads(recipe.threads)
    seed_everything(seed)
    model = MDEQ(experiment.model.architecture, experiment.model.equilibrium())
    if start is not None:
        begin(model, start)
    if recipe.sync_batch_norm:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, as the model itself is not a batch norm
    model.to(distributed.device(recipe.device))
    history = fit(
        model,
        numbered(training_batches(task, recipe, data, seed, multiple=model.size.multiple)),
        objective(task, recipe, seed),
        recipe,
        seed=seed,
        scratch=scratch,
        log=log,
        evaluate=validation(task, recipe, data),
    )
    return keep(out, model, experiment.model, history)


def begin(model: MDEQ, start: Path | str) -> None:
    """Loads the weights at `start` into `model`, except those of a head with other tensors.

    The released segmentation starts from a classifier of ImageNet in this way.
    """
    path = file_of(start)
    found = checkpoint.load_tensors(path) if path.suffix == ".safetensors" else load_released(path).state_dict()
    head = _head(model.state_dict())
    if checkpoint.misfits(_head(found), head):
        if distributed.rank() == 0:
            print(f"{path}: its head has other shapes, so the new head begins with random weights", file=sys.stderr)
        found = {name: value for name, value in found.items() if not name.startswith(HEAD)} | head
    checkpoint.load_into(model, found, source=str(path))


def _head(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name.startswith(HEAD)}


def objective(task: Scored | Detect, recipe: Recipe, seed: int) -> Callable[[nn.Module, tuple[int, Any]], Losses]:
    """Returns the objective: the task's loss, and the Jacobian penalty if due, with accuracy and convergence to log."""

    def losses(model: nn.Module, batch: tuple[int, Any]) -> Losses:
        assert isinstance(model, MDEQ)
        number, samples = batch
        plan = recipe.plan(seed, number // recipe.batches)
        samples = samples.to(next(model.parameters()).device)
        with deq.solve_scope():
            injection = model.inject(samples.images)
            solution = (
                model.solve(injection, stop=plan.stop(model.equilibrium.stop))
                if plan.depth is None
                else model.solve(injection, steps=plan.depth)
            )
            assert model.head is not None  # an experiment's model has a head
            logits = model.head(solution.value)
            total = loss(task, logits, samples)
            parts: dict[str, Tensor | float] = {
                "task_loss": total.detach(),
                "accuracy": training_metric(task, logits.detach(), samples),
                "residual": solution.residual.mean(),
            }
            penalty = 0.0
            if plan.penalty and recipe.jacobian is not None:
                penalty = model.jacobian_penalty(injection, solution, probes=recipe.jacobian.probes)
                total = total + plan.penalty * penalty
        if recipe.jacobian is not None:
            parts["jacobian"] = penalty.detach() if isinstance(penalty, Tensor) else penalty
        return Losses(total, parts)

    return losses


def validation(task: Scored | Detect, recipe: Recipe, data: Path) -> Callable[[nn.Module], dict[str, float]]:
    """Returns a function that measures val_loss, the headline metric and val_residual on the validation split.

    It raises `NonFiniteError`, naming the first image for which an output is not finite.
    """

    def measure(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, MDEQ)
        counted = tally(task)
        residuals: list[Tensor] = []
        multiple = model.size.multiple
        for batch in batches_in_order(task, data, task.validation_split, recipe.micro_batch, multiple=multiple):
            batch = batch.to(next(model.parameters()).device)
            output = model(batch.images)
            require_finite(output.logits, output.solution.residual, batch.names)
            counted.add(output.logits, batch)
            residuals.append(output.solution.residual)
        metrics = counted.metrics()
        values = {f"val_{name}": metrics[name] for name in ("loss", headline(task))}
        return {**values, "val_residual": float(torch.cat(residuals).mean())}

    return measure
