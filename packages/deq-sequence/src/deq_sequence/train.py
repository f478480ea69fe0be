"""Training of one language model: unrolled first, then through the equilibrium, with memory from batch to batch."""

from collections.abc import Callable, MutableMapping
from pathlib import Path

import torch
from torch import Tensor, nn

from deq_core.experiment import distributed
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.tracking.run import Log
from deq_core.experiment.training.fit import Losses, fit, keep, numbered
from deq_sequence.data import tokens as stored
from deq_sequence.data import vocabulary as vocabularies
from deq_sequence.data.batches import TokenBatch, batches
from deq_sequence.data.tokens import Tokens
from deq_sequence.evaluate import measure
from deq_sequence.models.transformer import DEQTransformer, Memory
from deq_sequence.networks import VOCABULARY, file_of, load_for, stored_form
from deq_sequence.params import Model, Train


def train(
    model: Model,
    recipe: Train,
    *,
    seed: int,
    data: Path | Tokens,
    out: Path,
    scratch: Path,
    log: Log,
    start: Path | str | None = None,
) -> dict[str, float]:
    """Trains a model and writes it, its vocabulary.json, history.csv and metrics.json to `out`.

    Args:
        model: architecture, solver and gradient.
        recipe: text, steps, batches and optimiser.
        seed: seed of the weights, the shifts of the text and everything drawn in training.
        data: folder of the prepared texts, or the text itself.
        out: output folder; appears, complete, when training is done.
        scratch: folder of the checkpoint from which an interrupted training resumes.
        log: receives every logged step.
        start: network whose weights training starts from, a path or name as for `networks.load`; its solver and
            gradient may differ.

    Returns:
        The latest finite value of every quantity in the history.

    Raises:
        CorpusError: the text is missing, damaged or too short for its rows, or `start` was trained with other tokens.
        ConfigError: the architecture does not allow the text's vocabulary.
        CheckpointError: the weights of `start` do not fit this network, or its layer norm has another position.
    """
    torch.set_num_threads(recipe.threads)
    seed_everything(seed)
    read = stored.read(data / recipe.text) if isinstance(data, Path) else data
    network = DEQTransformer(model.architecture(len(read.vocabulary)), model.equilibrium())
    if start is not None:
        first = load_for(start, read.vocabulary, recipe.text)
        own, norm = file_of(start), network.size.norm
        if own.suffix == ".safetensors" and first.size.norm != norm:  # shapes do not show it, nor do released files
            raise CheckpointError(
                f"{own}: a network with norm {first.size.norm!r}, where {model.name} has {norm!r}, so the weights do "
                "not fit; choose a model with that norm, or start from another network"
            )
        checkpoint.load_into(network, first.state_dict(), source=str(file_of(start)))
    network.to(distributed.device(recipe.device))
    memories: dict[str, Tensor] = {}
    stream = batches(
        stored.check_rows(read, "train", recipe.batch_size),
        batch_size=recipe.micro_batch,
        length=recipe.length,
        seed=seed,
        shift=recipe.shift,
        lanes=recipe.batches,
    )
    validation_text = stored.check_rows(read, "valid", recipe.batch_size, limit=recipe.validation_tokens)
    history = fit(
        network,
        numbered(stream),
        objective(recipe, seed, memories),
        recipe,
        seed=seed,
        scratch=scratch,
        log=log,
        evaluate=validation(recipe, validation_text),
        carried=memories,
    )
    return keep(
        out,
        network,
        stored_form(network),
        history,
        beside=lambda folder: vocabularies.save(folder / VOCABULARY, read.vocabulary),
    )


def objective(
    recipe: Train, seed: int, memories: MutableMapping[str, Tensor]
) -> Callable[[nn.Module, tuple[int, TokenBatch]], Losses]:
    """Returns the objective: mean loss per token, in nats, and the Jacobian penalty if due.

    `memories` has the memory of every lane, which a batch reads and replaces.
    """

    def losses(model: nn.Module, batch: tuple[int, TokenBatch]) -> Losses:
        assert isinstance(model, DEQTransformer)
        number, segment = batch
        plan = recipe.plan(seed, number // recipe.batches)
        device = next(model.parameters()).device
        probes = recipe.jacobian.probes if recipe.jacobian is not None and plan.penalty else 0
        output = model(
            segment.tokens.to(device),
            None if segment.first else remembered(memories, segment.lane, device),
            targets=segment.targets.to(device),
            steps=plan.depth,
            stop=plan.stop(model.equilibrium.stop),
            probes=probes,
        )
        memories.update(by_name(output.memory, segment.lane))
        assert output.loss is not None
        parts: dict[str, Tensor | float] = {
            "task_loss": output.loss.detach(),
            "residual": output.solution.residual.mean(),
            "evaluations": float(output.solution.nfe),
        }
        if recipe.jacobian is not None:
            parts["jacobian"] = 0.0 if output.jacobian is None else output.jacobian.detach().mean()
        if output.jacobian is None:
            return Losses(output.loss, parts)
        return Losses(output.loss + plan.penalty * output.jacobian.mean(), parts)

    return losses


def by_name(memory: Memory, lane: int) -> dict[str, Tensor]:
    """A memory as named tensors for a checkpoint."""
    return {f"lane {lane} states": memory.states, f"lane {lane} injections": memory.injections}


def remembered(memories: MutableMapping[str, Tensor], lane: int, device: torch.device) -> Memory:
    """The inverse of `by_name`."""
    return Memory(memories[f"lane {lane} states"].to(device), memories[f"lane {lane} injections"].to(device))


def validation(recipe: Train, text: Tensor) -> Callable[[nn.Module], dict[str, float]]:
    """Returns a function that measures loss, perplexity and residual on the validation text, by training segments."""

    def values(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, DEQTransformer)
        found = measure(model, text, length=recipe.length, batch_size=recipe.batch_size).score
        return {"val_loss": found.loss, "val_perplexity": found.perplexity, "val_residual": found.residual}

    return values
