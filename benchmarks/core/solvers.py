"""What a solver costs beside f, and how many evaluations it needs, next to torchdeq 0.1 in the same process.

    pip install --no-deps --target build/torchdeq torchdeq==0.1
    python benchmarks/core/solvers.py --torchdeq build/torchdeq --out build/solvers.json

Overhead is wall time minus the time spent in f, a float32 diagonal map, per evaluation; the two libraries take turns
and the median of `--repeats` rounds is reported, so that a busy machine disturbs both alike. `floor` is the time to
move the bytes a solver cannot avoid at the bandwidth of a plain copy measured in the same run.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import deq_core as deq

Run = Callable[[Callable[[Tensor], Tensor], Tensor, int, float], Any]

Problem = tuple[Callable[[Tensor], Tensor], Tensor]

WINDOW, STEPS, BATCH = 6, 30, 8


def ours(solver: deq.Solver) -> Run:
    def run(f: Callable[[Tensor], Tensor], z0: Tensor, steps: int, tol: float) -> deq.Solution:
        return deq.fixed_point(f, z0, solver=solver, stop=deq.Stop(steps, tol))

    return run


def theirs(name: str, **options: Any) -> Run:
    from torchdeq.solver import get_solver  # pyright: ignore[reportMissingImports]  a dependency of this script only

    solver = get_solver(name)

    def run(f: Callable[[Tensor], Tensor], z0: Tensor, steps: int, tol: float) -> Any:
        return solver(f, z0, max_iter=steps, tol=tol, stop_mode="rel", **options)

    return run


class Timed:
    """f, and the seconds and calls spent in it."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        self.f, self.seconds, self.calls = f, 0.0, 0

    def __call__(self, z: Tensor) -> Tensor:
        _wait(z)
        start = time.perf_counter()
        image = self.f(z)
        _wait(z)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return image


def overhead(run: Run, f: Callable[[Tensor], Tensor], z0: Tensor) -> float:
    """Milliseconds an evaluation beside f."""
    timed = Timed(f)
    _wait(z0)
    start = time.perf_counter()
    run(timed, z0, STEPS, 0.0)
    _wait(z0)
    return 1e3 * (time.perf_counter() - start - timed.seconds) / timed.calls


def diagonal(batch: int, size: int, device: torch.device) -> Problem:
    """A cheap map with a spread of eigenvalues in (-0.9, 0.9)."""
    slope = torch.linspace(-0.9, 0.9, size, device=device)
    shift = torch.randn(batch, size, generator=torch.Generator().manual_seed(0)).to(device)
    return lambda z: torch.addcmul(shift, slope, z), torch.zeros(batch, size, device=device)


def copy_milliseconds(batch: int, size: int, device: torch.device, repeats: int) -> float:
    """Milliseconds to read or to write one state, from the time of a copy."""
    source = torch.randn(batch, size, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(repeats):
        _wait(source)
        start = time.perf_counter()
        target.copy_(source)
        _wait(source)
        times.append(1e3 * (time.perf_counter() - start) / 2)
    return statistics.median(times)


def passes(kind: str) -> float:
    """States that have to be read or written an evaluation, on average over STEPS."""
    residual = 2  # z and f(z)
    match kind:
        case "anderson":  # two rows written, then one pass over the gaps and one over the images
            history = statistics.mean(min(k, WINDOW) for k in range(1, STEPS + 1))
            return residual + 2 + 2 * history + 1
        case "broyden":  # one row written, two passes over the steps
            return residual + 1 + 2 * statistics.mean(range(STEPS)) + 1
    return residual


def problems(device: torch.device) -> dict[str, Problem]:
    """Contractions on which evaluations are counted: dense, convolutional, and a larger convolutional one."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    weight = normal(512, 512)
    weight = (weight + weight.T) / 2
    weight = (0.9 * weight / torch.linalg.matrix_norm(weight, 2)).to(device)
    inject = normal(32, 512).to(device)
    found: dict[str, Problem] = {"mlp": (lambda z: torch.tanh(z @ weight.T + inject), torch.zeros_like(inject))}
    for name, shape in (("conv", (8, 64, 32, 32)), ("large", (1, 128, 64, 64))):
        found[name] = _convolution(normal(shape[1], shape[1], 3, 3).to(device), normal(*shape).to(device))
    return found


def _convolution(kernel: Tensor, inject: Tensor) -> Problem:
    """tanh(K * z + x) with K scaled to operator norm 0.9 by the power method."""
    conv2d, transposed = torch.nn.functional.conv2d, torch.nn.functional.conv_transpose2d
    vector = torch.randn_like(inject[:1])
    for _ in range(50):
        vector = transposed(conv2d(vector / vector.norm(), kernel, padding=1), kernel, padding=1)
    kernel = 0.9 * kernel / vector.norm().sqrt()
    return lambda z: torch.tanh(conv2d(z, kernel, padding=1) + inject), torch.zeros_like(inject)


def evaluations(run: Run, f: Callable[[Tensor], Tensor], z0: Tensor, tol: float) -> int | None:
    """Calls of f until every sample's relative residual, checked here, was below tol; None beyond 150."""
    calls, reached = 0, None

    def counted(z: Tensor) -> Tensor:
        nonlocal calls, reached
        calls += 1
        image = f(z)
        residual = (image - z).flatten(1).norm(dim=1) / image.flatten(1).norm(dim=1)
        if reached is None and bool((residual <= tol).all()):
            reached = calls
        return image

    run(counted, z0, 150, tol)
    return reached


def _wait(like: Tensor) -> None:
    if like.is_cuda:
        torch.cuda.synchronize(like.device)


def measure_overhead(
    solvers: dict[str, tuple[Run, Run]], device: torch.device, sizes: list[int], repeats: int
) -> list[dict[str, Any]]:
    rows = []
    for size in sizes:
        f, z0 = diagonal(BATCH, size // BATCH, device)
        unit = copy_milliseconds(BATCH, size // BATCH, device, repeats)
        for name, pair in solvers.items():
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(repeats + 1):
                for run, found in zip(pair, times, strict=True):
                    found.append(overhead(run, f, z0))
            mine, other = (statistics.median(found[1:]) for found in times)  # the first round warms up
            floor = unit * passes(name)
            rows.append({"solver": name, "size": size, "ms": mine, "torchdeq_ms": other, "floor_ms": floor})
            print(
                f"{name:10} {size:9,} floats: {mine:8.3f} ms, torchdeq {other:8.3f} ms, "
                f"ratio {mine / other:.2f}, {mine / floor:.1f}x of the floor ({other / floor:.1f}x)"
            )
    return rows


def count_evaluations(solvers: dict[str, tuple[Run, Run]], device: torch.device) -> list[dict[str, Any]]:
    rows = []
    for problem, (f, z0) in problems(device).items():
        for name, (our, their) in solvers.items():
            for tol in (1e-3, 1e-6):
                mine, other = evaluations(our, f, z0, tol), evaluations(their, f, z0, tol)
                rows.append({"problem": problem, "solver": name, "tol": tol, "ours": mine, "torchdeq": other})
                print(f"{problem:6} {name:10} to {tol:g}: {mine} evaluations, torchdeq {other}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torchdeq", type=Path, required=True, help="folder torchdeq 0.1 was installed into")
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--skip-evaluations", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(options.torchdeq))
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    device = torch.device(options.device)
    solvers = {
        "iteration": (ours(deq.FixedPointIteration()), theirs("fixed_point_iter")),
        "anderson": (ours(deq.Anderson(window=WINDOW)), theirs("anderson", m=WINDOW)),
        "broyden": (ours(deq.Broyden()), theirs("broyden")),
    }
    rows = measure_overhead(solvers, device, options.sizes, options.repeats)
    counts = [] if options.skip_evaluations else count_evaluations(solvers, device)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"overhead": rows, "evaluations": counts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
