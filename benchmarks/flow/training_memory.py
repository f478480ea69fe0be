"""Memory of a training step of DEQ-Flow and of unrolled RAFT of the same size: docs/deq-flow.md.

    python -m benchmarks.flow.training_memory [--size base] [--height 368] [--width 496] [--device cpu] [--write]

There are two numbers for each network and number of iterations, measured in a separate process:

saved   bytes that autograd keeps for the backward pass; they depend on shapes alone, and `saved_bytes` counts them
peak    peak memory of loss and gradient, minus the memory in use before: on a CPU the resident memory of the process
        (Linux), on CUDA the memory allocated by PyTorch

Batch normalisation is frozen, as in every stage after FlyingChairs.
"""

import argparse
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from benchmarks.core.pages import markdown, with_table
from benchmarks.flow.saved_bytes import saved_bytes
from deq_core.experiment.files import write_text
from deq_flow import build, sequence_loss
from deq_flow.models.network import FlowNetwork

PAGE = Path(__file__).parents[2] / "docs" / "deq-flow.md"
HEADER = ("network", "encoders", "iterations", "saved", "peak", "RAFT 24 saves", "RAFT 24 peaks at")
MEGA = 1e6
RAFT, ONE_STEP, RELEASED = "RAFT, unrolled", "DEQ-Flow, 1-step gradient", "DEQ-Flow, 2 losses of 3 phantom steps"


@dataclass(frozen=True)
class Case:
    """A network with its number of iterations in training."""

    network: str
    iterations: int
    recompute: bool = False

    def build(self, size: str) -> FlowNetwork:
        """The network in training mode."""
        if self.network == RAFT:
            name = "raft" if size == "base" else f"raft-{size}"
            return build(name, steps=self.iterations, recompute=self.recompute).freeze_batch_norm().train()
        released = self.network == RELEASED
        choices = {
            "stop": deq.Stop(max_steps=self.iterations, tol=None),
            "adjoint": deq.Phantom(steps=3 if released else 1),
            "correction": (self.iterations // 2,) if released else (),
            "recompute": self.recompute,
        }
        return build(f"deq-flow-{size}", **choices).freeze_batch_norm().train()


CASES = [
    Case(network, iterations, recompute)
    for recompute in (False, True)
    for network, both in ((RAFT, (12, 24)), (ONE_STEP, (24, 36)), (RELEASED, (24, 36)))
    for iterations in both
]


@dataclass(frozen=True)
class Memory:
    """Memory of a training step, bytes."""

    saved: int
    peak: int


def measure(case: Case, size: str, shape: tuple[int, int, int], device: str) -> Memory:
    """The memory of a case for images of `shape` (batch, height, width), in this process."""
    torch.manual_seed(0)
    model = case.build(size).to(device)

    def images(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        first, second = (255 * torch.rand(batch, 3, height, width, device=device) for _ in range(2))
        return first, second

    step(model, *images(1, 64, 64))  # PyTorch allocates some memory at its first use
    pair = images(*shape)
    return Memory(saved_bytes(model, *pair), peak_of(lambda: step(model, *pair), device))


def step(model: FlowNetwork, image1: Tensor, image2: Tensor) -> None:
    """Computes loss and gradient of a training step."""
    model.zero_grad(set_to_none=True)
    target = image1.new_zeros(len(image1), 2, *image1.shape[2:])
    valid = torch.ones_like(target[:, 0], dtype=torch.bool)
    sequence_loss(model(image1, image2).flows, target, valid).backward()


def peak_of(run: Callable[[], None], device: str) -> int:
    """Peak memory during `run`, minus the memory in use before, bytes."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def resident(name: str) -> int:
    """Resident memory of this process, bytes: VmRSS is the current value, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def table(measured: dict[Case, Memory]) -> str:
    """Table with one row for each case, and the ratio to RAFT with 24 iterations and the same option for encoders."""
    rows = []
    for case, memory in measured.items():
        raft = measured[Case(RAFT, 24, case.recompute)]
        ratios = [f"{raft.saved / memory.saved:.1f}x", f"{raft.peak / memory.peak:.1f}x"]
        megabytes = [f"{count / MEGA:,.0f} MB" for count in (memory.saved, memory.peak)]
        encoders = "recomputed" if case.recompute else "kept"
        rows.append([case.network, encoders, str(case.iterations), *megabytes, *ratios])
    return markdown(HEADER, rows)


def alone(case: Case, size: str, shape: tuple[int, int, int], device: str) -> Memory:
    """`measure` in a new process, in which freed memory is returned to the system at once."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (case, size, shape, device))


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and with --write writes it to the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="base", help="network size that both kinds have, such as mini or base")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--height", type=int, default=368, help="of FlyingChairs' crop by default")
    parser.add_argument("--width", type=int, default=496)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args(arguments)
    shape = (options.batch, options.height, options.width)
    found: dict[Case, Memory] = {}
    for case in CASES:
        found[case] = alone(case, options.size, shape, options.device)
        print(case, found[case], flush=True)
    print(table(found))
    if options.write:
        write_text(PAGE, with_table(PAGE.read_text(), "training-memory", table(found)))


if __name__ == "__main__":
    main()
