"""One update of the weights: losses, gradient, learning rate, clipping and the optimiser's step."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from deq_core.experiment.config.recipe import Updates
from deq_core.experiment.distributed import Workers
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.seeding import derive, seed_everything
from deq_core.experiment.training.optim import learning_rate

Batch = Any
Row = dict[str, float]
Sums = dict[str, tuple[float, float]]
"""Of each quantity the sum, and how many values are in it: what rows are means of."""

RECORDED = ("step", "loss", "lr", "gradient_norm")
"""Names that the loop itself gives to columns of the history."""
_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Of autocast around the objective; float32 is without."""


@dataclass(frozen=True)
class Losses:
    """What an objective returns for one batch."""

    total: Tensor
    """Scalar to minimise, a mean over the batch."""
    parts: Mapping[str, Tensor | float] = field(default_factory=dict)
    """Further values to record, such as the residual of the solve; the same names at every step. What is a scalar is
    averaged over batches; a vector, of one value for each sample that has one, over these samples."""

    def __post_init__(self) -> None:
        if self.total.numel() != 1:
            raise ValueError(f"total: expected a scalar, got shape {tuple(self.total.shape)}")
        taken = [name for name in self.parts if name in RECORDED]
        if taken:
            raise ValueError(f"parts: the loop records {', '.join(RECORDED)} itself; rename {', '.join(taken)}")


@dataclass(frozen=True)
class Update:
    """Update `step` of `steps`, from the next batches of a stream."""

    objective: Callable[[nn.Module, Batch], Losses]
    recipe: Updates
    seed: int
    workers: Workers

    @property
    def batches(self) -> int:
        """Batches of one update, over all processes."""
        return self.recipe.accumulate * self.workers.size

    def __call__(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        stream: Iterator[Batch],
    ) -> Sums:
        """Changes `model` and `optimizer`; returns sums of losses and parts, learning rate and gradient norm."""
        optimizer.zero_grad(set_to_none=True)
        sums = self._backward(step, model, scaler, stream)
        loss = sums["loss"][0]
        if not math.isfinite(loss):
            raise NonFiniteError(self._said(step, f"the loss is {loss}", sums))
        gradients = self._gradients(model)
        lr = learning_rate(self.recipe.optim, step, self.recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        scaler.unscale_(optimizer)
        norm = nn.utils.get_total_norm(gradients)
        sums |= {"lr": (lr, 1.0), "gradient_norm": (norm.item(), 1.0)}
        # under float16 an overflow is expected now and then: the scaler then leaves the step out and scales less
        if not norm.isfinite() and not scaler.is_enabled():
            raise NonFiniteError(self._said(step, f"the norm of the gradient is {norm.item()}", sums))
        if self.recipe.optim.clip is not None:
            nn.utils.clip_grads_with_norm_(model.parameters(), self.recipe.optim.clip, norm)
        scaler.step(optimizer)
        scaler.update()
        if scaler.is_enabled() and not scaler.get_scale():  # each overflow halves it; at 0 every update is left out
            raise NonFiniteError(self._said(step, "float16 holds the gradient at no scale", sums))
        return sums

    def losses(self, model: nn.Module, stream: Iterator[Batch], number: int) -> Losses:
        """Losses of `model` on the next batch of `stream`, which is batch `number` and drawn for as such."""
        try:
            batch = next(stream)
        except StopIteration:
            raise ValueError(f"batches: ended before batch {number}; expected a stream without end") from None
        seed_everything(derive(self.seed, number))
        device = next(model.parameters()).device
        with (
            torch.autocast(device.type, _PRECISIONS[self.recipe.precision])
            if _PRECISIONS[self.recipe.precision] != torch.float32
            else nullcontext()
        ):
            return self.objective(model, batch)

    def _backward(self, step: int, model: nn.Module, scaler: torch.amp.GradScaler, stream: Iterator[Batch]) -> Sums:
        """Adds up the gradient of this process's batches; returns sums over the batches of all processes."""
        names: list[str] = []
        found: list[Tensor] = []
        for part in range(self.recipe.accumulate):
            number = step * self.batches + part * self.workers.size + self.workers.rank
            losses = self.losses(model, stream, number)
            scaler.scale(losses.total / self.batches).backward()
            names = ["loss", *losses.parts]
            found.append(_stack(losses))
        total = torch.stack(found).sum(dim=0)
        self.workers.sum_([total])
        return dict(zip(names, zip(*total.tolist(), strict=True), strict=True))

    def _gradients(self, model: nn.Module) -> list[Tensor]:
        """Gradients of all parameters that have one, summed over the processes."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if self.workers.size > 1:  # a parameter that this process's batches did not touch may matter to another's
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.workers.sum_(gradients)
        return gradients

    def _said(self, step: int, what: str, sums: Sums) -> str:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in means([sums]).items())
        return (
            f"step {step + 1} of {self.recipe.steps}: {what} ({shown}). Nothing of this step was saved; "
            "try a lower optim.lr, a smaller optim.clip, or more steps of the solver"
        )


def means(sums: Sequence[Sums]) -> Row:
    """The mean of each quantity; without those of which there is no value, such as an error where nothing is known."""
    counts = {name: math.fsum(one[name][1] for one in sums) for name in sums[0]}
    return {name: math.fsum(one[name][0] for one in sums) / count for name, count in counts.items() if count}


def _stack(losses: Losses) -> Tensor:
    """Sums of total and parts, and below them their counts: one tensor, so that they leave the device together."""
    total = losses.total.detach().reshape(())
    total = total.float() if total.dtype.itemsize < 4 else total
    parts = [torch.as_tensor(part, dtype=total.dtype, device=total.device).detach() for part in losses.parts.values()]
    values = [total, *parts]
    return torch.stack([torch.stack([value.sum() for value in values]), total.new_tensor([v.numel() for v in values])])
