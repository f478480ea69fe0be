"""The loss of a batch, at one scale or at two."""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from deq_core.experiment.training.fit import Losses
from deq_flow.data.batches import FlowBatch
from deq_flow.metrics import epe
from deq_flow.models import DEQFlow, FlowOutput
from deq_flow.models.scales import rescaled, resized
from deq_flow.params import Coarser, Stabilise
from deq_flow.training.loss import sequence_loss
from deq_flow.training.stabilise import Attempt, attempt, smooth_noise


@dataclass(frozen=True)
class Objective:
    """The sequence loss over all supervised predictions, with the error and residual of the last one.

    The error is over the pairs with at least one pixel of known flow, as crops of sparse flow may have none.

    Attributes:
        steps: number of batches of the whole training
        gamma: weight of each prediction relative to the next one
        noise: greatest standard deviation, of 255, of the noise on both frames of a batch
        stabilise: solves of an equilibrium network; None is its own training solve
        coarser: training at two scales; None is at one
    """

    steps: int
    gamma: float
    noise: float = 0.0
    stabilise: Stabilise | None = None
    coarser: Coarser | None = None

    def __call__(self, model: nn.Module, batch: tuple[int, FlowBatch]) -> Losses:
        number, pairs = batch
        progress = min(number / self.steps, 1.0)
        pairs = pairs.to(next(model.parameters()).device)
        if self.noise:
            image1, image2 = noisy((pairs.image1, pairs.image2), self.noise)
            pairs = replace(pairs, image1=image1, image2=image2)
        total, base = pairs.flow.new_zeros(()), None
        if self.coarser is not None and torch.rand(()) < self.coarser.share:
            coarse, pairs = two_scales(pairs, enlarge=bool(torch.rand(()) < self.coarser.enlarged))
            total, made = self._attempt(model, coarse, None, progress)
            height, width = pairs.valid.shape[1:]
            found = rescaled(made.flows[-1].detach()[: len(pairs.valid)], (height, width))
            base = disturbed(found, self.coarser)
        fine, made = self._attempt(model, pairs, base, progress)
        known = pairs.valid.flatten(1).any(dim=1)
        errors = epe(made.flows[-1].detach(), pairs.flow, pairs.valid)
        parts: dict[str, Tensor | float] = {"epe": errors[known]}
        if made.residual is not None:
            parts["residual"] = made.residual.mean()
        if self.stabilise is not None and self.stabilise.contraction is not None:
            parts["expansion"] = 0.0 if made.expansion is None else made.expansion.detach().mean()
        return Losses(total + fine, parts)

    def _attempt(
        self, model: nn.Module, pairs: FlowBatch, base: Tensor | None, progress: float
    ) -> tuple[Tensor, Attempt]:
        """The loss at one scale, and the attempt that it is of."""
        images = pairs.image1, pairs.image2
        if self.stabilise is not None and isinstance(model, DEQFlow):
            made = attempt(model, images, base, self.stabilise, progress)
        else:
            output: FlowOutput = model(*images, base=base)
            made = Attempt(output.flows, None if output.solution is None else output.solution.residual)
        return sequence_loss(made.flows, pairs.flow, pairs.valid, gamma=self.gamma) + made.penalty, made


def disturbed(base: Tensor, choice: Coarser) -> Tensor:
    """The base (B, 2, H, W), with smooth noise on that of some samples."""
    length = choice.disturbance * torch.rand(len(base), 1, 1, 1, device=base.device)
    chosen = torch.rand(len(base), 1, 1, 1, device=base.device) < choice.disturbed
    return torch.where(chosen, base + length * smooth_noise(base, "bicubic"), base)


def two_scales(pairs: FlowBatch, *, enlarge: bool) -> tuple[FlowBatch, FlowBatch]:
    """A coarser and a finer scale: the pairs halved and the pairs, or the pairs and half of them enlarged."""
    if not enlarge:
        return halved(pairs), pairs
    half = (len(pairs.valid) + 1) // 2
    size = 2 * pairs.valid.shape[1], 2 * pairs.valid.shape[2]
    known = pairs.valid[:half, None].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    flow = torch.where(pairs.valid[:half, None], pairs.flow[:half], 0.0)
    near = rescaled(flow, size) if pairs.valid[:half].all() else 2 * F.interpolate(flow, size, mode="nearest")
    image1, image2 = (resized(image[:half], size) for image in (pairs.image1, pairs.image2))
    return pairs, FlowBatch(image1, image2, near, rearrange(known, "b 1 h w -> b h w"))


def halved(pairs: FlowBatch) -> FlowBatch:
    """The pairs at half their size, as means of four pixels; of flow, only over the known ones."""
    image1, image2 = (F.avg_pool2d(image, 2) for image in (pairs.image1, pairs.image2))
    known = pairs.valid[:, None].to(pairs.flow.dtype)
    share = F.avg_pool2d(known, 2)
    flow = F.avg_pool2d(torch.where(known > 0, pairs.flow, 0.0), 2) / share.clamp(min=0.25) / 2
    return FlowBatch(image1, image2, flow, rearrange(share, "b 1 h w -> b h w") > 0)


def noisy(images: tuple[Tensor, Tensor], greatest: float) -> tuple[Tensor, Tensor]:
    """Images plus Gaussian noise of one random standard deviation from 0 to `greatest`, clamped to 0..255."""
    deviation = greatest * torch.rand((), device=images[0].device)
    first, second = ((image + deviation * torch.randn_like(image)).clamp(0, 255) for image in images)
    return first, second
