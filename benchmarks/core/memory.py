"""Memory of a solve compared with torchdeq 0.1, and of a training step by its length: docs/against-torchdeq.md.

    pip install --no-deps --target build/torchdeq torchdeq==0.1
    python -m benchmarks.core.memory [--write]    # with docs/figures/memory.svg

Peak resident memory during a solve, or a solve and its backward pass, minus that before (Linux), in states of a million
float32 numbers. Each series runs in its own process, in which freed memory is returned to the system at once.
"""

import argparse
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from benchmarks.core import torchdeq
from benchmarks.core.pages import markdown, read_table, with_table
from benchmarks.core.torchdeq import Run, ours, theirs
from deq_core.experiment.files import write_text
from deq_core.experiment.study.plotting import Figure, curve, figure, save

PAGE = Path(__file__).parents[2] / "docs" / "against-torchdeq.md"
FIGURE = PAGE.parent / "figures" / "memory.svg"
BATCH, SIZE, STEPS, WINDOW = 8, 125_000, 30, 6
LENGTHS = (5, 10, 20, 50, 100, 200)
HERE, THERE = "here", "torchdeq"

ADJOINTS: dict[str, Callable[[], deq.Adjoint]] = {
    "`Implicit()`": lambda: deq.Implicit(on_failure="ignore"),
    "`Phantom(5)`": lambda: deq.Phantom(5),
    "`Reversible(damping=0.9)`": lambda: deq.Reversible(damping=0.9),
    "`Unrolled()`": deq.Unrolled,
}


def diagonal() -> tuple[Tensor, Tensor]:
    """Slopes (n,) and shifts (B, n) of a contractive map z ↦ shift + slope z."""
    shift = torch.randn(BATCH, SIZE, generator=torch.Generator().manual_seed(0))
    return torch.linspace(-0.9, 0.9, SIZE), shift


def solvers(where: str) -> dict[str, Run]:
    """The solvers of one library, all with the same window."""
    if where == HERE:
        found = {"plain": deq.FixedPointIteration(), "Anderson": deq.Anderson(WINDOW), "Broyden": deq.Broyden()}
        return {name: ours(solver) for name, solver in found.items()}
    return {
        "plain": theirs("fixed_point_iter"),
        "Anderson": theirs("anderson", m=WINDOW),
        "Broyden": theirs("broyden"),
    }


@torch.no_grad()
def of_solve(where: str, name: str, folder: Path) -> float:
    """Memory, in states, of a solve of STEPS evaluations, without z0 and the tensors of f."""
    if where == THERE:
        torchdeq.use(folder)
    run, (slope, shift) = solvers(where)[name], diagonal()
    z0 = torch.zeros_like(shift)
    run(lambda z: 0.5 * z, torch.zeros(2, 2), 3, 0.0)  # PyTorch allocates some memory at its first use
    return _peak(lambda: run(lambda z: torch.addcmul(shift, slope, z), z0, STEPS, 0.0)) / _bytes(z0)


def of_training(name: str) -> list[float]:
    """Memory, in states, of solves of LENGTHS evaluations with their backward passes, without z0 and f's tensors."""
    slope, shift = diagonal()
    z0 = torch.zeros_like(shift)
    slope.requires_grad_()
    adjoint = ADJOINTS[name]()
    solver = adjoint if isinstance(adjoint, deq.Reversible) else deq.FixedPointIteration()

    def step(start: Tensor, length: int) -> None:
        solution = deq.fixed_point(
            lambda z: torch.tanh(slope[: z.shape[1]] * z + shift[:, : z.shape[1]]),
            start,
            solver=solver,
            stop=deq.Stop(length, None),
            adjoint=adjoint,
        )
        torch.autograd.grad(solution.value.square().sum(), slope)

    step(z0[:, :10], 5)
    return [_peak(lambda length=length: step(z0, length)) / _bytes(z0) for length in LENGTHS]


def draw(steps: Mapping[str, Sequence[str]]) -> Figure:
    """Memory of a training step against the evaluations of its solve.

    Args:
        steps: table "memory of a step": adjoint -> states at each of LENGTHS.
    """
    drawn, (axes,) = figure(6, 3.5)
    for name, states in steps.items():
        curve(axes, LENGTHS, [[float(count) for count in states]], label=name.strip("`"))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(LENGTHS, [f"{length}" for length in LENGTHS])
    axes.set_yticks(LENGTHS, [f"{length}" for length in LENGTHS])
    axes.minorticks_off()
    axes.set_ylim(LENGTHS[0], 1.25 * LENGTHS[-1])
    axes.set_xlabel("evaluations of the forward solve")
    axes.set_ylabel("states in memory, at most")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return drawn


def _bytes(z: Tensor) -> int:
    return z.untyped_storage().nbytes()


def _peak(run: Callable[[], object]) -> int:
    """Peak memory during `run` minus that before, bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _resident("VmRSS")
    run()
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    """A memory counter of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    torchdeq.add_option(parser)
    parser.add_argument("--write", action="store_true", help="replace the figure, and the tables in the page")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args()
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, maxtasksperchild=1) as pool:
        rows = [
            [name, *(f"{pool.apply(of_solve, (where, name, options.torchdeq)):.1f}" for where in (HERE, THERE))]
            for name in ("plain", "Anderson", "Broyden")
        ]
        solves = markdown(["", HERE, THERE], rows)
        print(solves, flush=True)
        rows = [[name, *(f"{states:.0f}" for states in pool.apply(of_training, (name,)))] for name in ADJOINTS]
    steps = markdown(["", *(f"{length}" for length in LENGTHS)], rows)
    print(steps)
    if options.write:
        page = with_table(options.page.read_text(), "memory of a solve", solves)
        page = with_table(page, "memory of a step", steps)
        write_text(options.page, page)
        save(draw(read_table(page, "memory of a step")), options.figure)


if __name__ == "__main__":
    main()
