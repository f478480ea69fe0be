"""Training of a flow network, from a seed to a checkpoint."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from deq_core.experiment import distributed
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.data.batches import in_order
from deq_core.experiment.data.released import located
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.tracking.run import Log
from deq_core.experiment.training.fit import fit, keep, numbered
from deq_flow.data.batches import FlowBatch, batches, same_shape
from deq_flow.data.held_out import held_out, kept
from deq_flow.data.mixes import Mix, open_sets
from deq_flow.data.samples import SampleSet, require_known
from deq_flow.data.sets.chairs import FlyingChairs
from deq_flow.inference import Estimator
from deq_flow.metrics import epe
from deq_flow.networks import Network, Stored, build_network, file_of, weights
from deq_flow.params import Model, Train
from deq_flow.training.objective import Objective

Measure = Callable[[nn.Module], dict[str, float]]


def train(
    model: Model,
    recipe: Train,
    *,
    seed: int,
    data: Path,
    out: Path,
    scratch: Path,
    log: Log,
    start: Path | str | None = None,
) -> dict[str, float]:
    """Trains a network and writes model.safetensors, config.json, history.csv and metrics.json to `out`.

    Args:
        model: network, with its solver and gradient.
        recipe: data, steps, batches, optimiser and augmentation.
        seed: seed of the weights, and of the order and augmentation of the data.
        data: folder of the training sets, or of the manifest of their places.
        out: folder, which is created complete at the end.
        scratch: folder of the checkpoint from which an interrupted training resumes.
        log: receives every logged step.
        start: checkpoint, as in `networks.load`, whose weights training starts from, such as the previous stage of a
            curriculum; its solver and gradient may differ.

    Returns:
        The latest finite value of each quantity in the history.

    Raises:
        LayoutError: a training set is missing or incomplete.
        CheckpointError: the weights of `start` do not fit this network.
    """
    torch.set_num_threads(recipe.threads)
    seed_everything(seed)
    network = build_network(model)
    if start is not None:
        checkpoint.load_into(network, weights(start), source=str(file_of(start)))
    return train_network(network, model, recipe, seed=seed, data=data, out=out, scratch=scratch, log=log)


def train_network(
    network: Network,
    about: Stored,
    recipe: Train,
    *,
    seed: int,
    data: Path,
    out: Path,
    scratch: Path,
    log: Log,
    before: Mapping[str, float] | None = None,
    beside: Callable[[Path], None] = lambda folder: None,
) -> dict[str, float]:
    """Trains a given network; otherwise as `train`.

    Args:
        network: network, which is changed in place.
        about: contents of config.json.
        before: metrics before the first update, which become step 0 of the history.
        beside: function that writes further files to the folder that it gets.
    """
    torch.set_num_threads(recipe.threads)
    network.to(distributed.device(recipe.device))
    network.freeze_batch_norm(recipe.freeze_batch_norm)
    mix, measure = opened(recipe, located(data))
    stream = batches(
        list(in_order(mix)) if recipe.cache else mix,
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
    history = fit(network, numbered(stream), objective, recipe, seed=seed, scratch=scratch, log=log, evaluate=measure)
    first = [] if before is None else [{"step": 0, **before}]
    return keep(out, network, about, [*first, *history], beside=beside)


def opened(recipe: Train, root: Path) -> tuple[Mix, Measure]:
    """The training pairs of a recipe, and the function that measures a model on its validation pairs."""
    sets = open_sets(recipe.mix, root)
    if recipe.held_out is None:
        return Mix(recipe.mix, sets), validation(list(in_order(FlyingChairs(root, "val"))), recipe.micro_batch)
    parts = [kept(pairs, recipe.held_out) for pairs in sets]
    return Mix(recipe.mix, parts), measure_of(held_out(sets, recipe.held_out))


def measure_of(pairs: SampleSet) -> Measure:
    """A function that measures a model as in inference: over its scales, with its own stop, a pair at a time.

    `val_epe` is the error in pixels. For an equilibrium network, `val_residual` is the residual of the solve, and
    `val_change` the change of the flow, in pixels, if the finest scale gets twice its maximum number of evaluations.
    """

    def measure(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Network)
        estimate = Estimator(model)
        values: dict[str, list[float]] = {}
        for index in range(len(pairs)):
            sample = pairs[index]
            require_known(sample, sample.name)
            batch = FlowBatch.collate([sample])
            output = estimate(batch.image1, batch.image2)
            found = {"val_epe": epe(output.flow.cpu(), batch.flow, batch.valid)}
            if output.solution is not None:
                steps = estimate.steps, 2 * estimate.steps
                once, twice, _ = estimate(batch.image1, batch.image2, steps=steps[1], record=steps).flows
                found["val_residual"] = output.solution.residual
                found["val_change"] = (twice - once).norm(dim=1)
            for name, value in found.items():
                values.setdefault(name, []).append(float(value.mean()))
        return {name: sum(parts) / len(parts) for name, parts in values.items()}

    return measure


def validation(pairs: SampleSet, batch_size: int) -> Measure:
    """A function that measures a model's forward pass: `val_epe`, pixels, and `val_residual`, means over pairs."""

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
