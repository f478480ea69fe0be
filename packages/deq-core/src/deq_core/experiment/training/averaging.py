"""Exponential moving average of the weights, with its own batch-normalisation statistics."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from deq_core.experiment.distributed import Workers

BATCHES = 50
"""Number of batches, over all processes, that the statistics of averaged weights are estimated from."""


class Average(AveragedModel):
    """A copy of `model`, in `module`, updated by average <- decay average + (1 - decay) parameter.

    Buffers are copied from `model`. Batch-normalisation statistics belong to the weights that gathered them: neither
    these nor their average are right for averaged weights. `estimate` computes them anew.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.n_averaged += 1  # the average begins at the initial weights, not at those of the first update

    @torch.no_grad()
    def estimate(self, passes: Callable[[nn.Module], Iterable[object]], workers: Workers) -> None:
        """Sets batch-normalisation statistics to their mean over `BATCHES` batches, as torch's `update_bn` does.

        Frozen layers keep their statistics. Without layers that gather statistics, this does nothing.

        Args:
            passes: `passes(module)` runs this process's batches through `module`, one for each item, without end.
            workers: processes that share the batches; each gets the statistics over all batches.
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
        """Buffers of the copy that belong to other layers."""
        known = {id(buffer) for layer in gathering for buffer in layer.buffers(recurse=False)}
        return [buffer for buffer in self.module.buffers() if id(buffer) not in known]

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Copies the parameters and buffers of the average into `model`."""
        model.load_state_dict(self.module.state_dict())
