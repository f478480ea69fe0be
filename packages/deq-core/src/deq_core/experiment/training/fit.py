"""`fit`, the training loop of all domains, which supply model, batches and objective.

A training that was killed and resumed ends with the same bits as an uninterrupted one: batches, learning rate and
random numbers are functions of the step, and everything else is in the checkpoint.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn

from deq_core.experiment import distributed
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config import ConfigError, Scalar, flatten
from deq_core.experiment.config.recipe import Updates
from deq_core.experiment.errors import NonFiniteError as NonFiniteError
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.progress import Progress
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.tables import write_rows
from deq_core.experiment.tracking.log import Log, ignore
from deq_core.experiment.training.averaging import Average
from deq_core.experiment.training.optim import build
from deq_core.experiment.training.update import Batch, Row, Sums, Update, means
from deq_core.experiment.training.update import Losses as Losses

_PARTS = ("numbers", "model", "optimizer", "scaler", "average", "carried", "step", "history", "sums")
"""Keys of a checkpoint."""


def fit(
    model: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    objective: Callable[[nn.Module, Batch], Losses],
    recipe: Updates,
    *,
    seed: int,
    scratch: Path,
    log: Log = ignore,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    carried: MutableMapping[str, Tensor] | None = None,
) -> list[Row]:
    """Trains `model` in place and returns the history, one row for each logged step (from 1).

    A row has step, loss, the parts of the losses, lr, gradient_norm (before clipping), and the results of an
    evaluation at that step.

    Args:
        model: the model, on its training device. A model with parts that stay in evaluation mode overrides `train`.
        batches: `batches(start)` yields batches start, start + 1, ...; a batch depends only on its number. Each update
            takes the next `recipe.accumulate` x processes batches.
        objective: computes the losses of the model on one batch. Global generators are reseeded for each batch.
        recipe: number of updates, optimiser, precision, and how often to log, evaluate and save.
        seed: seed of the random numbers in `objective`; the caller seeds the data and the initial weights.
        scratch: folder of the checkpoint `training.pt`. If it exists, training resumes from it.
        log: called with each row of the history and its step; a resumed training repeats the earlier rows.
        evaluate: measures the model in evaluation mode, without gradients; its values are added to that step's row.
        carried: state that `objective` carries from batch to batch, such as a recurrent state; it reads and replaces
            the values here. Part of the checkpoint. Each process uses its own names.

    Under torchrun each of n processes takes every n-th batch; the result is that of one process with an n times larger
    `accumulate`. Every process prepares all batches, since `batches` knows nothing of processes. Running statistics,
    such as those of batch normalisation, come from the first process's batches. Every process evaluates.

    Raises:
        ConfigError: float16 without CUDA, or `every.evaluate` without `evaluate`.
        NonFiniteError: the loss, the gradient or a result of `evaluate` is not finite. The last checkpoint is kept.
        CheckpointError: the checkpoint is damaged or belongs to a training with other settings.
    """
    steps, every = recipe.steps, recipe.every
    device = next(model.parameters()).device
    if recipe.precision == "float16" and device.type != "cuda":
        raise ConfigError(f"precision: float16 needs CUDA, got a model on {device}; use bfloat16 or float32")
    if evaluate is None and every.evaluate is not None:
        raise ConfigError(f"every.evaluate: this training has no evaluation; expected null, got {every.evaluate}")
    with distributed.workers(device) as workers:
        workers.share_state_(model)  # before the average copies the initial weights
        update = Update(objective, recipe, seed, workers)
        numbers = {"seed": seed, **{name: getattr(recipe, name) for name in ("steps", "optim", "precision", "ema")}}
        state = _State(
            model,
            build(recipe.optim, model.parameters()),
            torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16"),
            None if recipe.ema is None else Average(model, recipe.ema),
            flatten({**numbers, "batches of an update": update.batches}),
            {} if carried is None else carried,
        )
        path = scratch / "training.pt"
        if path.exists():
            state.load(path)
        first = workers.rank == 0
        for row in state.history if first else ():
            _record(log, row)
        model.train()
        stream = workers.share(batches(state.step * update.batches))
        with Progress(steps, done=state.step) if first else nullcontext() as progress:
            while state.step < steps:
                sums = update(state.step, model, state.optimizer, state.scaler, stream)
                state.step += 1
                state.sums.append(sums)
                if state.average is not None:
                    state.average.update_parameters(model)
                last = state.step == steps
                measured: dict[str, float] = {}
                watched = evaluate is not None and bool(every.evaluate) and state.step % every.evaluate == 0
                if last or watched:
                    state.estimate(update, batches)
                    measured = {} if evaluate is None else state.evaluate(evaluate, seed)
                if measured or last or state.step % every.log == 0:
                    state.history.append({"step": state.step, **means(state.sums), **measured})
                    state.sums.clear()
                    if first:
                        _record(log, state.history[-1])
                if progress is not None:
                    progress.update(state.step, means([sums]))
                if last or state.step % every.checkpoint == 0:
                    everywhere = workers.gathered(state.replaced)
                    if first:
                        state.save(path, {**state.carried, **everywhere})
    if state.average is not None:
        state.average.copy_to(model)
    return state.history


@dataclass
class _State:
    """The content of a checkpoint: everything that changes from step to step."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: Average | None
    numbers: Mapping[str, Scalar]
    """Settings of the training; a checkpoint with other settings is refused."""
    carried: MutableMapping[str, Tensor]
    """State that this process carries from batch to batch."""
    resumed: Mapping[str, Tensor] = field(default_factory=dict)
    """Carried state of all processes in the checkpoint that this training resumed from."""
    step: int = 0
    """Number of updates done."""
    history: list[Row] = field(default_factory=list)
    sums: list[Sums] = field(default_factory=list)
    """Sums of the steps since the last row of the history."""

    @property
    def replaced(self) -> dict[str, Tensor]:
        """Carried state that this process has replaced since it resumed."""
        return {name: value for name, value in self.carried.items() if value is not self.resumed.get(name)}

    def save(self, path: Path, carried: Mapping[str, Tensor]) -> None:
        """Replaces the checkpoint at `path`; `carried` is the carried state of all processes."""
        state = {
            "numbers": dict(self.numbers),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "carried": dict(carried),
            "step": self.step,
            "history": self.history,
            "sums": self.sums,
        }
        checkpoint.save_state(path, state)

    def load(self, path: Path) -> None:
        """Resumes from the checkpoint at `path`."""
        state = checkpoint.load_state(path)
        if missing := [name for name in _PARTS if name not in state]:
            raise checkpoint.CheckpointError(
                f"{path}: expected a training's state, got one without {', '.join(missing)}; remove it to start anew"
            )
        then = state["numbers"]
        differ = [name for name in {**then, **self.numbers} if then.get(name) != self.numbers.get(name)]
        if differ:
            listed = ", ".join(f"{name} was {then.get(name)}, is {self.numbers.get(name)}" for name in differ)
            raise checkpoint.CheckpointError(f"{path} belongs to another training: {listed}; remove it to start anew")
        checkpoint.load_into(self.model, state["model"], source=str(path))
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            checkpoint.load_into(self.average, state["average"], source=str(path))
        self.resumed = state["carried"]
        self.carried.clear()
        self.carried.update(self.resumed)
        self.step, self.history, self.sums = state["step"], state["history"], state["sums"]

    def estimate(self, update: Update, batches: Callable[[int], Iterable[Batch]]) -> None:
        """Estimates the batch-normalisation statistics of the averaged weights from the next batches.

        The training's own state is unchanged.
        """
        if self.average is None:
            return
        first, workers = self.step * update.batches, update.workers

        def passes(model: nn.Module) -> Iterator[Losses]:
            stream = workers.share(batches(first))
            for number in workers.share(count(first)):
                yield update.losses(model, stream, number)

        carried = dict(self.carried)
        self.average.estimate(passes, workers)
        self.carried.clear()
        self.carried.update(carried)

    def evaluate(self, measure: Callable[[nn.Module], dict[str, float]], seed: int) -> dict[str, float]:
        """Values of `measure` on the averaged weights if there are any, otherwise on the model; deterministic."""
        model = self.model if self.average is None else self.average.module
        seed_everything(seed)
        model.eval()
        with torch.no_grad():
            measured = {name: float(value) for name, value in measure(model).items()}
        self.model.train()
        broken = [f"{name} is {value}" for name, value in measured.items() if not math.isfinite(value)]
        if broken:
            raise NonFiniteError(
                f"the evaluation after step {self.step} of {self.numbers['steps']}: {', '.join(broken)}. The state of "
                "an earlier step is kept; try a lower optim.lr, a smaller optim.clip, or more steps of the solver"
            )
        return measured


def numbered(batches: Callable[[int], Iterable[Batch]]) -> Callable[[int], Iterator[tuple[int, Batch]]]:
    """The same batches, each with its number, for an objective that depends on the progress of training."""
    return lambda start: zip(count(start), batches(start), strict=False)  # both are infinite


def keep(
    out: Path,
    model: nn.Module,
    config: object,
    history: Sequence[Row],
    *,
    beside: Callable[[Path], None] = lambda folder: None,
) -> Row:
    """Writes model.safetensors, config.json, history.csv and metrics.json to the folder `out`, atomically.

    Only the first process writes. `beside(folder)` writes further files. Returns the content of metrics.json: the last
    finite value of each column of the history. With float16 the last gradient norm may be an overflow.
    """
    newest = {name: value for row in history for name, value in row.items() if math.isfinite(value)}
    if distributed.rank() == 0:
        with output_directory(out) as partial:
            checkpoint.save(partial / "model.safetensors", model, config)
            write_rows(partial / "history.csv", history)
            write_json(partial / "metrics.json", newest)
            beside(partial)
    return newest


def _record(log: Log, row: Row) -> None:
    log({name: value for name, value in row.items() if name != "step"}, int(row["step"]))
