"""Moving averages of weights, which often evaluate better than the last weights, with batch statistics of their own."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from deq_core.experiment.distributed import Workers

BATCHES = 50
"""Batches, over all processes, whose mean statistics averaged weights get: what estimating them costs."""


class Average(AveragedModel):
    """A copy of `model`, in `module`, whose parameters follow: average <- decay average + (1 - decay) parameter.

    Its buffers are those of `model`, but for statistics of batch normalisation. These are of the weights that gathered
    them, and neither they nor an average of them are right for averaged weights; see `estimate`.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.n_averaged += 1  # the average begins at the initial weights, not at those of the first update

    @torch.no_grad()
    def estimate(self, passes: Callable[[nn.Module], Iterable[object]], workers: Workers) -> None:
        """Gives batch normalisation the mean statistics of `BATCHES` batches, as torch's `update_bn` does.

        Layers that keep their statistics in training mode, being frozen, keep them here; without other layers, nothing
        is done.

        Args:
            passes: passes this process's batches, one an item and without end, through the module that it is given.
            workers: among whom the batches are shared; each gets the statistics of all.
        """
        gathering = [
            layer
            for layer in self.module.train().modules()
            if isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats
        ]
        if not gathering:
            return
        before = [(layer, layer.momentum) for layer in gathering]
        kept = [(buffer, buffer.clone()) for buffer in self._others(gathering)]
        for layer in gathering:
            layer.reset_running_stats()
            layer.momentum = None  # the mean of all batches
        for _ in islice(passes(self.module), -(-BATCHES // workers.size)):
            pass
        for layer, momentum in before:
            layer.momentum = momentum
        for buffer, value in kept:
            buffer.copy_(value)
        workers.sum_([layer.get_buffer("num_batches_tracked") for layer in gathering])
        statistics = [layer.get_buffer(name) for layer in gathering for name in ("running_mean", "running_var")]
        workers.sum_(statistics)
        for statistic in statistics:
            statistic /= workers.size

    def _others(self, gathering: Sequence[nn.Module]) -> list[Tensor]:
        """Buffers of the copy that are not of these layers."""
        known = {id(buffer) for layer in gathering for buffer in layer.buffers(recurse=False)}
        return [buffer for buffer in self.module.buffers() if id(buffer) not in known]

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Replaces parameters and buffers of `model` by those of the average."""
        model.load_state_dict(self.module.state_dict())
