"""Training of one flow network: data, objective and the shared loop, from a seed to a checkpoint."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from deq_core.experiment import distributed
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.data.batches import Cached
from deq_core.experiment.data.released import located
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.tracking.run import Log
from deq_core.experiment.training.fit import fit, keep, numbered
from deq_flow.data.batches import FlowBatch, batches, same_shape
from deq_flow.data.mixes import open_mix
from deq_flow.data.sets.chairs import FlyingChairs
from deq_flow.metrics import epe
from deq_flow.networks import build_network
from deq_flow.params import Model, Train
from deq_flow.training.objective import Objective


def train(
    model: Model,
    recipe: Train,
    *,
    seed: int,
    data: Path,
    out: Path,
    scratch: Path,
    log: Log,
    start: Path | None = None,
) -> dict[str, float]:
    """Trains a network and writes model.safetensors, config.json, history.csv and metrics.json to `out`.

    Args:
        model: which network, and how it is solved and differentiated.
        recipe: data, steps, batches, optimiser and augmentation.
        seed: of the weights, the order of the data and its augmentation.
        data: folder of the training sets, or of the manifest that says where they are.
        out: folder that appears, whole, when training is done.
        scratch: folder of the checkpoint that an interrupted training resumes from.
        log: receives every logged step.
        start: folder of the network whose weights training starts from, the stage before in a curriculum; its solver
            and gradient may differ.

    Returns:
        The newest value of everything in the history.

    Raises:
        LayoutError: a training set is not there or not complete.
        CheckpointError: the weights of `start` are not those of this network.
    """
    torch.set_num_threads(recipe.threads)
    seed_everything(seed)
    network = build_network(model)
    if start is not None:
        path = start / "model.safetensors"
        checkpoint.load_into(network, checkpoint.load_tensors(path), source=str(path))
    network.to(distributed.device(recipe.device))
    network.freeze_batch_norm(recipe.freeze_batch_norm)
    mix = open_mix(recipe.mix, located(data))
    stream = batches(
        Cached(mix) if recipe.cache else mix,
        batch_size=recipe.micro_batch,
        augment=mix.augmentation,
        seed=seed,
        workers=recipe.workers,
    )
    objective = Objective(
        steps=recipe.steps * recipe.batches,
        gamma=recipe.gamma,
        noise=recipe.noise,
        stabilise=recipe.stabilise,
        coarser=recipe.coarser,
    )
    history = fit(
        network,
        numbered(stream),
        objective,
        recipe,
        seed=seed,
        scratch=scratch,
        log=log,
        evaluate=validation(located(data), recipe.micro_batch),
    )
    return keep(out, network, model, history)


def validation(data: Path, batch_size: int) -> Callable[[nn.Module], dict[str, float]]:
    """Measures a model on the validation pairs of FlyingChairs: `val_epe`, pixels, and `val_residual` of a solve."""
    pairs = Cached(FlyingChairs(data, "val"))

    def measure(model: nn.Module) -> dict[str, float]:
        values: dict[str, list[Tensor]] = {}
        for group in same_shape(pairs, batch_size):
            batch = FlowBatch.collate(group)
            batch = batch.to(next(model.parameters()).device)
            output = model(batch.image1, batch.image2)
            values.setdefault("val_epe", []).append(epe(output.flow, batch.flow, batch.valid))
            if output.solution is not None:
                values.setdefault("val_residual", []).append(output.solution.residual)
        return {name: float(torch.cat(parts).mean()) for name, parts in values.items()}

    return measure
