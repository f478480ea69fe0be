"""Training of one flow network: data, objective and the shared loop, from a seed to a checkpoint."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from deq_core.experiment import checkpoint
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.results import write_rows
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.tracking import Log
from deq_core.experiment.training import Losses, fit
from deq_flow.data.batches import Cached, FlowBatch, batches
from deq_flow.data.chairs import FlyingChairs
from deq_flow.evaluate import same_shape
from deq_flow.loss import sequence_loss
from deq_flow.metrics import epe
from deq_flow.networks import build_network
from deq_flow.params import Model, Train


def train(
    model: Model, recipe: Train, *, seed: int, data: Path, out: Path, scratch: Path, log: Log
) -> dict[str, float]:
    """Trains a network and writes model.safetensors, config.json, history.csv and metrics.json to `out`.

    Args:
        model: which network, and how it is solved and differentiated.
        recipe: steps, batches, optimiser and augmentation.
        seed: of the weights, the order of the data and its augmentation.
        data: folder that holds FlyingChairs_release.
        out: folder that appears, whole, when training is done.
        scratch: folder of the checkpoint that an interrupted training resumes from.
        log: receives every logged step.

    Returns:
        The newest value of everything in the history.
    """
    torch.set_num_threads(recipe.threads)
    seed_everything(seed)
    network = build_network(model)
    pairs = FlyingChairs(data, "train")
    stream = batches(
        Cached(pairs) if recipe.cache else pairs,
        batch_size=recipe.batch_size,
        augment=recipe.augment,
        seed=seed,
        workers=recipe.workers,
    )
    history = fit(
        network,
        stream,
        objective(recipe.gamma),
        recipe.optim,
        steps=recipe.steps,
        seed=seed,
        scratch=scratch,
        log=log,
        every=recipe.every,
        evaluate=validation(data, recipe.batch_size),
    )
    newest = {name: value for row in history for name, value in row.items()}
    with output_directory(out) as partial:
        checkpoint.save(partial / "model.safetensors", network, model)
        write_rows(partial / "history.csv", history)
        write_json(partial / "metrics.json", newest)
    return newest


def objective(gamma: float) -> Callable[[nn.Module, FlowBatch], Losses]:
    """The sequence loss over every supervised prediction; beside it the error and convergence of the last one."""

    def losses(model: nn.Module, batch: FlowBatch) -> Losses:
        output = model(batch.image1, batch.image2)
        total = sequence_loss(output.flows, batch.flow, batch.valid, gamma=gamma)
        parts: dict[str, Tensor | float] = {"epe": epe(output.flow.detach(), batch.flow, batch.valid).mean()}
        if output.solution is not None:
            parts["residual"] = output.solution.residual.mean()
        return Losses(total, parts)

    return losses


def validation(data: Path, batch_size: int) -> Callable[[nn.Module], dict[str, float]]:
    """Measures a model on the validation pairs of FlyingChairs: `val_epe`, pixels, and `val_residual` of a solve."""
    pairs = Cached(FlyingChairs(data, "val"))

    def measure(model: nn.Module) -> dict[str, float]:
        values: dict[str, list[Tensor]] = {}
        for group in same_shape(pairs, batch_size):
            batch = FlowBatch.collate(group)
            output = model(batch.image1, batch.image2)
            values.setdefault("val_epe", []).append(epe(output.flow, batch.flow, batch.valid))
            if output.solution is not None:
                values.setdefault("val_residual", []).append(output.solution.residual)
        return {name: float(torch.cat(parts).mean()) for name, parts in values.items()}

    return measure
