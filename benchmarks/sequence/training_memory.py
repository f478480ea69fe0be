"""Memory of one training step against the number of evaluations: docs/sequence.md.

    python -m benchmarks.sequence.training_memory [--size mini-wide] [--batch 32] [--length 64] [--device cpu] [--write]

The networks are the equilibrium by Anderson with implicit gradients, the same with a one-step phantom gradient, and the
weight-tied transformer unrolled to the same depth. Each case runs in its own process. See
benchmarks/flow/training_memory.py for `saved` and `peak`.
"""

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from benchmarks.core.pages import markdown, with_table
from benchmarks.flow.training_memory import Memory, peak_of
from deq_core.experiment.files import write_text
from deq_core.experiment.study.training_costs import saved_bytes as counted
from deq_sequence import DEQTransformer, build

PAGE = Path(__file__).parents[2] / "docs" / "sequence.md"
MEGA = 1e6
EVALUATIONS = (4, 8, 12, 24, 48)
IMPLICIT, PHANTOM, UNROLLED = "equilibrium, implicit", "equilibrium, 1-step gradient", "unrolled"
BACKWARD = 8
"""Evaluations of the implicit gradient's adjoint solve, one vector-Jacobian product each."""


@dataclass(frozen=True)
class Case:
    """A network, and the number of forward evaluations of its cell in training."""

    network: str
    evaluations: int

    def build(self, size: str, length: int) -> DEQTransformer:
        """The network in training mode, with a memory as long as a segment."""
        if self.network == UNROLLED:
            return build(size, steps=self.evaluations, memory=length).train()
        stop = deq.Stop(max_steps=self.evaluations, tol=None)
        adjoint = deq.Phantom(steps=1)
        if self.network == IMPLICIT:
            backward = deq.Stop(max_steps=BACKWARD, tol=None)
            adjoint = deq.Implicit(deq.Anderson(window=5), backward, on_failure="ignore")
        return build(size, solver=deq.Anderson(window=5), stop=stop, adjoint=adjoint, memory=length).train()


CASES = [Case(network, number) for network in (IMPLICIT, PHANTOM, UNROLLED) for number in EVALUATIONS]


def measure(case: Case, size: str, batch: int, length: int, device: str) -> Memory:
    """Measures a case in this process, on the second segment of the rows, so that the network's memory is full."""
    torch.manual_seed(0)
    model = case.build(size, length).to(device)
    text = torch.randint(model.size.vocabulary, (batch, 2 * length + 1), device=device)
    step(model, text[:1, :18])  # PyTorch allocates some memory at its first use
    return Memory(saved_bytes(model, text), peak_of(lambda: step(model, text), device))


def loss(model: DEQTransformer, text: Tensor) -> Tensor:
    """Loss on the second half of text (B, 2T + 1), with the first as memory."""
    length = text.shape[1] // 2
    with torch.no_grad():
        memory = model(text[:, :length], targets=text[:, 1 : length + 1], steps=1).memory
    output = model(text[:, length:-1], memory, targets=text[:, length + 1 :])
    assert output.loss is not None
    return output.loss


def step(model: DEQTransformer, text: Tensor) -> None:
    """Computes loss and gradient of a training step."""
    model.zero_grad(set_to_none=True)
    loss(model, text).backward()


def saved_bytes(model: DEQTransformer, text: Tensor) -> int:
    """Bytes that autograd saves for the backward pass, without parameters."""
    return counted(model.parameters(), lambda: loss(model, text))


def table(measured: dict[Case, Memory]) -> str:
    """Table with one row per network and kind of memory, one column per number of evaluations."""
    rows = []
    for network in (IMPLICIT, PHANTOM, UNROLLED):
        for kind in ("saved", "peak"):
            counts = [getattr(measured[Case(network, number)], kind) for number in EVALUATIONS]
            rows.append([f"{network}: {kind}", *(f"{count / MEGA:,.0f} MB" for count in counts)])
    return markdown(("evaluations", *map(str, EVALUATIONS)), rows)


def alone(case: Case, *arguments: object) -> Memory:
    """`measure` in a new process, in which freed memory is returned to the system at once."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (case, *arguments))


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and writes it to the page with `--write`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="mini-wide", help="a name that `deq_sequence.build` knows")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args(arguments)
    found: dict[Case, Memory] = {}
    for case in CASES:
        found[case] = alone(case, options.size, options.batch, options.length, options.device)
        print(case, found[case], flush=True)
    print(table(found))
    if options.write:
        write_text(PAGE, with_table(PAGE.read_text(), "training-memory", table(found)))


if __name__ == "__main__":
    main()
