"""Evaluations of f per solve, compared with torchdeq 0.1 with its best settings: docs/against-torchdeq.md.

    pip install --no-deps --target build/torchdeq torchdeq==0.1
    python -m benchmarks.core.evaluations

Every call of f counts, in float64, until each sample has once had a relative residual within the tolerance. "Best" is
the minimum over the settings for each problem and tolerance. Counts do not depend on the machine, up to rounding.
"""

import argparse
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from benchmarks.core import torchdeq
from benchmarks.core.choosing import NEVER, TOLERANCES, evaluations
from benchmarks.core.pages import markdown, with_table
from benchmarks.core.problems import PROBLEMS, Problem
from benchmarks.core.torchdeq import Run, ours, theirs
from deq_core.experiment.files import write_text

PAGE = Path(__file__).parents[2] / "docs" / "against-torchdeq.md"
BUDGET = 300
RIDGES = (1e-3, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12)


@dataclass(frozen=True)
class Pair:
    """A solver of this library, first with defaults, then with other settings, and torchdeq's settings to try."""

    here: tuple[deq.Solver, ...]
    name: str
    settings: tuple[Mapping[str, object], ...]


PAIRS: dict[str, Pair] = {
    "plain": Pair((deq.FixedPointIteration(),), "fixed_point_iter", ({},)),
    "damped by 0.5": Pair((deq.FixedPointIteration(damping=0.5),), "fixed_point_iter", ({"tau": 0.5},)),
    "Anderson": Pair(
        (deq.Anderson(), deq.Anderson(ridge=1e-3), deq.Anderson(ridge=1e-12, relative_ridge=False)),
        "anderson",
        tuple({"m": 6, "lam": ridge} for ridge in RIDGES),
    ),
    "Broyden": Pair((deq.Broyden(),), "broyden", ({"ls": False}, {"ls": True})),
}

Counts = dict[str, list[int | None]]
"""problem → evaluations to each of `TOLERANCES`; None if a solve does not reach it."""


def counts(run: Run, problem: Problem) -> list[int | None]:
    """Number of evaluations to each of `TOLERANCES`."""
    residuals: list[Tensor] = []

    def watched(z: Tensor) -> Tensor:
        fz = problem.f(z)
        residuals.append((fz - z).flatten(1).norm(dim=1) / fz.flatten(1).norm(dim=1))
        return fz

    # torchdeq's Anderson raises it when its residuals are linearly dependent.
    with suppress(torch.linalg.LinAlgError):  # pyright: ignore[reportPrivateImportUsage]  documented as this name
        run(watched, problem.z0, BUDGET, 0.0)
    trace = torch.stack(residuals)
    return [evaluations(trace, tol) for tol in TOLERANCES]


def best(runs: Iterable[Run]) -> Counts:
    """Fewest evaluations of any run, for each problem and tolerance."""
    found = {name: [counts(run, make()) for run in runs] for name, make in PROBLEMS.items()}
    return {
        name: [min((count for count in column if count), default=None) for column in zip(*rows, strict=True)]
        for name, rows in found.items()
    }


def by_default(pair: Pair) -> Counts:
    """Evaluations of this library with its defaults."""
    return best([ours(pair.here[0])])


def row(label: str, cells: Counts) -> list[str]:
    """A row of the table: `10 / 20 / -` for each problem."""
    return [label, *(" / ".join(str(count or NEVER) for count in cell) for cell in cells.values())]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    torchdeq.add_option(parser)
    parser.add_argument("--page", type=Path, default=PAGE, help="page whose table is replaced")
    options = parser.parse_args()
    torchdeq.use(options.torchdeq)
    torch.set_num_threads(1)
    rows = []
    for label, pair in PAIRS.items():
        rows.append(row(label, by_default(pair)))
        if len(pair.here) > 1:
            rows.append(row(f"{label}, best", best([ours(solver) for solver in pair.here])))
        rows.append(row(f"{label}, torchdeq's best", best([theirs(pair.name, **found) for found in pair.settings])))
    table = markdown(["", *PROBLEMS], rows)
    write_text(options.page, with_table(options.page.read_text(), "evaluations beside torchdeq", table))
    print(table)


if __name__ == "__main__":
    main()
