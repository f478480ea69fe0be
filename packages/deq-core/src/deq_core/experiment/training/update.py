"""One update of the weights: losses, gradient, learning rate, clipping and optimiser step."""

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
"""Sum and number of values of each quantity; a row of the history has their means."""

RECORDED = ("step", "loss", "lr", "gradient_norm")
"""Columns of the history that the loop itself writes."""
_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions of autocast around the objective; float32 does without autocast."""


@dataclass(frozen=True)
class Losses:
    """Return value of an objective for one batch."""

    total: Tensor
    """Scalar to minimise, a mean over the batch."""
    parts: Mapping[str, Tensor | float] = field(default_factory=dict)
    """Further values to record, such as the residual of the solve; names are the same at every step. Scalars are
    averaged over batches. A vector has one value for each sample that defines one, and is averaged over samples."""

    def __post_init__(self) -> None:
        if self.total.numel() != 1:
            raise ValueError(f"total: expected a scalar, got shape {tuple(self.total.shape)}")
        taken = [name for name in self.parts if name in RECORDED]
        if taken:
            raise ValueError(f"parts: the loop records {', '.join(RECORDED)} itself; rename {', '.join(taken)}")


@dataclass(frozen=True)
class Update:
    """Performs one update of a training from the next batches of a stream."""

    objective: Callable[[nn.Module, Batch], Losses]
    recipe: Updates
    seed: int
    workers: Workers

    @property
    def batches(self) -> int:
        """Number of batches per update, over all processes."""
        return self.recipe.accumulate * self.workers.size

    def __call__(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        stream: Iterator[Batch],
    ) -> Sums:
        """Performs update `step`; returns the sums of losses, parts, learning rate and gradient norm."""
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
        # float16 gradients overflow now and then; the scaler then skips the step and lowers its scale
        if not norm.isfinite() and not scaler.is_enabled():
            raise NonFiniteError(self._said(step, f"the norm of the gradient is {norm.item()}", sums))
        if self.recipe.optim.clip is not None:
            nn.utils.clip_grads_with_norm_(model.parameters(), self.recipe.optim.clip, norm)
        scaler.step(optimizer)
        scaler.update()
        if scaler.is_enabled() and not scaler.get_scale():  # each overflow halves it; at 0 every update is skipped
            raise NonFiniteError(self._said(step, "float16 holds the gradient at no scale", sums))
        return sums

    def losses(self, model: nn.Module, stream: Iterator[Batch], number: int) -> Losses:
        """Losses of `model` on the next batch of `stream`; global generators are seeded by the batch's `number`."""
        try:
            batch = next(stream)
        except StopIteration:
            raise ValueError(f"batches: ended before batch {number}; expected an endless stream") from None
        seed_everything(derive(self.seed, number))
        device = next(model.parameters()).device
        with (
            torch.autocast(device.type, _PRECISIONS[self.recipe.precision])
            if _PRECISIONS[self.recipe.precision] != torch.float32
            else nullcontext()
        ):
            return self.objective(model, batch)

    def _backward(self, step: int, model: nn.Module, scaler: torch.amp.GradScaler, stream: Iterator[Batch]) -> Sums:
        """Accumulates the gradient over this process's batches; returns sums over the batches of all processes."""
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
        if self.workers.size > 1:  # another process may have a gradient where this one has none
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
    """Mean of each quantity that has values; an error without ground truth, for instance, has none."""
    counts = {name: math.fsum(one[name][1] for one in sums) for name in sums[0]}
    return {name: math.fsum(one[name][0] for one in sums) / count for name, count in counts.items() if count}


def _stack(losses: Losses) -> Tensor:
    """Sums of total and parts (first row) and their counts (second row), in one tensor for one transfer."""
    total = losses.total.detach().reshape(())
    total = total.float() if total.dtype.itemsize < 4 else total
    parts = [torch.as_tensor(part, dtype=total.dtype, device=total.device).detach() for part in losses.parts.values()]
    values = [total, *parts]
    return torch.stack([torch.stack([value.sum() for value in values]), total.new_tensor([v.numel() for v in values])])
