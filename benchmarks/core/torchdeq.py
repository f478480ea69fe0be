"""torchdeq 0.1, the library to compare with; a dependency of benchmarks only.

pip install --no-deps --target build/torchdeq torchdeq==0.1
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import deq_core as deq

Run = Callable[[Callable[[Tensor], Tensor], Tensor, int, float], Any]
"""Solves z = f(z), given f, z0, the maximum number of evaluations, and the relative residual at which to stop."""

FOLDER = Path("build/torchdeq")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--torchdeq`, the folder of its installation."""
    parser.add_argument("--torchdeq", type=Path, default=FOLDER, help="folder torchdeq 0.1 was installed into")


def use(folder: Path) -> None:
    """Makes torchdeq in `folder` importable."""
    if not (folder / "torchdeq").is_dir():
        sys.exit(f"{folder}: expected torchdeq; run `pip install --no-deps --target {folder} torchdeq==0.1`")
    sys.path.insert(0, str(folder))


def ours(solver: deq.Solver) -> Run:
    """A solver of this library."""

    def run(f: Callable[[Tensor], Tensor], z0: Tensor, steps: int, tol: float) -> deq.Solution:
        return deq.fixed_point(f, z0, solver=solver, stop=deq.Stop(steps, tol), on_failure="ignore")

    return run


def theirs(name: str, **options: Any) -> Run:
    """A solver of torchdeq with the keywords `options`. Its Broyden calls f once more than it counts."""
    from torchdeq.solver import get_solver  # pyright: ignore[reportMissingImports]  a dependency of benchmarks only

    solver = get_solver(name)

    def run(f: Callable[[Tensor], Tensor], z0: Tensor, steps: int, tol: float) -> Any:
        with torch.no_grad():
            return solver(f, z0, max_iter=steps, tol=tol, stop_mode="rel", **options)

    return run
