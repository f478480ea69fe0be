"""Training in several processes that torchrun starts, without overhead for a single process.

Gradients are averaged here and not by `DistributedDataParallel`, whose hooks expect one backward pass through every
parameter. An implicit gradient takes many, to solve a linear system.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deq_core.experiment.config import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """The processes that train one model: rank of this one, and their number."""

    rank: int = 0
    size: int = 1

    def share(self, batches: Iterable[T]) -> Iterator[T]:
        """This process's share of a stream of batches: every `size`-th one."""
        return islice(iter(batches), self.rank, None, self.size)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes, with one all-reduce."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of all processes, on the CPU; names must be unique across processes."""
        own = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        if self.size == 1:
            return own
        everywhere: list[dict[str, Tensor]] = [{}] * self.size
        dist.all_gather_object(everywhere, own)
        merged = {name: tensor for one in everywhere for name, tensor in one.items()}
        if len(merged) != sum(map(len, everywhere)):
            raise ValueError(f"expected names that no two processes use, got {sorted(map(sorted, everywhere))}")
        return merged

    def share_state_(self, model: nn.Module) -> None:
        """Copies weights and buffers of the first process to all processes."""
        if self.size > 1:
            with torch.no_grad():
                for tensor in model.state_dict().values():
                    dist.broadcast(tensor, src=0)


def rank() -> int:
    """Rank of this process under torchrun, otherwise 0."""
    return int(os.environ.get("RANK", "0"))


def device(kind: str) -> torch.device:
    """The device of this process: the CPU, or the CUDA device of its local rank.

    Raises:
        ConfigError: CUDA is not available, or there are more processes than GPUs.
    """
    if kind != "cuda":
        return torch.device(kind)
    if not torch.cuda.is_available():
        raise ConfigError("device: cuda is not available to this process; use device: cpu, or check `nvidia-smi`")
    index, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index >= count:
        raise ConfigError(f"processes: expected at most {count}, one for each GPU that is visible, got more")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def become(module: str, arguments: Sequence[str], processes: int) -> None:
    """Replaces this process by torchrun with `processes` times `python -m module arguments`.

    Does nothing for one process, or if torchrun started this process already. Signals, standard streams and the exit
    status become those of torchrun.

    Raises:
        ConfigError: torchrun started another number of processes, so that each would take a share of the wrong size.
    """
    if "RANK" in os.environ and processes != (started := int(os.environ.get("WORLD_SIZE", "1"))):
        raise ConfigError(
            f"processes: expected {started}, as torchrun started (WORLD_SIZE), got {processes}; run the command "
            "without torchrun, which it starts by itself, or change processes"
        )
    if processes == 1 or "RANK" in os.environ:
        return
    torchrun = [sys.executable, "-m", __name__, "--standalone", "--nproc-per-node", str(processes)]
    sys.stdout.flush()
    os.execv(sys.executable, [*torchrun, "-m", module, *arguments])


def launch(arguments: Sequence[str]) -> None:
    """Runs torchrun, without its traceback if a process failed (which printed its own) or a signal ended it."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.main(list(arguments))
    except ChildFailedError:
        sys.exit(1)
    except SignalException as ended:
        sys.exit(128 + ended.sigval)


@contextmanager
def workers(device: torch.device) -> Iterator[Workers]:
    """Connects the processes that torchrun started, for tensors on `device`; without torchrun, this process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Workers()
        return
    owner = not dist.is_initialized()
    if owner:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Workers(rank=dist.get_rank(), size=dist.get_world_size())
    finally:
        if owner:
            dist.destroy_process_group()


if __name__ == "__main__":
    launch(sys.argv[1:])
