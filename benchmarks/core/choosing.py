"""Convergence of each solver on four problems: the figures and the table of docs/choosing-a-solver.md.

    python -m benchmarks.core.choosing --out docs/figures

Numbers of evaluations do not depend on the machine, up to rounding; times do. They are CPU seconds of one thread.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from benchmarks.core.pages import markdown, with_table
from benchmarks.core.problems import PROBLEMS, Problem
from deq_core.experiment.files import write_text
from deq_core.experiment.study.plotting import Figure, curve, figure, save

PAGE = Path(__file__).parents[2] / "docs" / "choosing-a-solver.md"

SOLVERS: dict[str, deq.Solver] = {
    "plain": deq.FixedPointIteration(),
    "damped by 0.5": deq.FixedPointIteration(damping=0.5),
    "Anderson": deq.Anderson(),
    "Anderson, type I": deq.TypeOneAnderson(),
    "safeguarded Anderson": deq.Safeguarded(),
    "safeguarded type I": deq.Safeguarded(deq.TypeOneAnderson()),
    "Broyden": deq.Broyden(),
}
TOLERANCES = (1e-3, 1e-6, 1e-9)
BUDGET = 300
REPEATS = 5
NEVER = "-"


@torch.no_grad()
def solve(problem: Problem, solver: deq.Solver, f: Callable[[Tensor], Tensor] | None = None) -> deq.Solution:
    """Solves to the tightest tolerance; `f` replaces the problem's own."""
    stop = deq.Stop(BUDGET, TOLERANCES[-1])
    return deq.fixed_point(problem.f if f is None else f, problem.z0, solver=solver, stop=stop, on_failure="ignore")


def evaluations(trace: Tensor, tol: float) -> int | None:
    """Number of evaluations until every sample has had a residual within `tol`; None if one never has.

    Args:
        trace: (evaluations, B), as in `Solution`.
    """
    within = trace <= tol
    return int(within.int().argmax(0).max()) + 1 if bool(within.any(0).all()) else None


def radius(problem: Problem) -> float:
    """Largest spectral radius of the Jacobian at the solutions of the samples."""
    value = solve(problem, deq.Broyden()).value
    generator = torch.Generator().manual_seed(0)
    return float(deq.nn.spectral_radius(problem.f, value, iterations=100, generator=generator).max())


def seconds(problem: Problem, solver: deq.Solver) -> list[float]:
    """CPU seconds from the start to the end of each evaluation, the median over several solves."""
    runs = []
    for _ in range(REPEATS):
        ends: list[float] = []

        def clocked(z: Tensor, ends: list[float] = ends) -> Tensor:
            fz = problem.f(z)
            ends.append(time.process_time())
            return fz

        start = time.process_time()
        solve(problem, solver, clocked)
        runs.append([end - start for end in ends])
    return [statistics.median(moments) for moments in zip(*runs, strict=True)]


def table(traces: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Table of the evaluations to each tolerance, `10 / 20 / -`; solvers are rows, problems columns."""
    rows = [["spectral radius", *[f"{radius(PROBLEMS[name]()):.2f}" for name in traces]]]
    for solver in SOLVERS:
        counts = [[evaluations(found[solver], tol) for tol in TOLERANCES] for found in traces.values()]
        rows.append([solver, *[" / ".join(str(count or NEVER) for count in cell) for cell in counts]])
    return markdown(["", *traces], rows)


def measure() -> dict[str, dict[str, Tensor]]:
    """Solves every problem with every solver: problem -> solver -> trace (evaluations, B)."""
    problems = {name: make() for name, make in PROBLEMS.items()}
    return {
        name: {label: solve(problem, solver).trace for label, solver in SOLVERS.items()}
        for name, problem in problems.items()
    }


def draw(
    traces: Mapping[str, Mapping[str, Tensor]],
    milliseconds: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> Figure:
    """Lowest residual so far of the worst sample, against evaluations or against time, one panel per problem.

    A panel ends at the end of the slowest solver that converges.
    """
    drawn, panels = figure(8, 6, rows=2, columns=2)
    for axes, (name, found) in zip(panels, traces.items(), strict=True):
        last = 0.0
        for label, trace in found.items():
            worst = trace.cummin(0).values.amax(1).tolist()
            x = range(1, len(worst) + 1) if milliseconds is None else milliseconds[name][label]
            curve(axes, x, [worst], label=label)
            last = max(last, x[-1] if worst[-1] <= TOLERANCES[-1] else 0)
        axes.set_title(name)
        axes.set_yscale("log")
        axes.set_ylim(TOLERANCES[-1] / 2, 2)
        axes.set_xlim(0, 1.05 * last)
        axes.set_xlabel("evaluations" if milliseconds is None else f"CPU milliseconds ({machine()})")
    for axes in panels[::2]:
        axes.set_ylabel("relative residual")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return drawn


def machine() -> str:
    return f"{os.cpu_count()} CPU cores, 1 thread"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--page", type=Path, default=PAGE, help="page whose table is replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    traces = measure()
    write_text(options.page, with_table(options.page.read_text(), "evaluations", table(traces)))
    save(draw(traces), options.out / "solvers_evaluations.svg")
    times = {
        name: {label: [1e3 * moment for moment in seconds(make(), solver)] for label, solver in SOLVERS.items()}
        for name, make in PROBLEMS.items()
    }
    save(draw(traces, times), options.out / "solvers_time.svg")


if __name__ == "__main__":
    main()
