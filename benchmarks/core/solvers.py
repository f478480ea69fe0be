"""Overhead of a solver besides f, compared with torchdeq 0.1 in the same process: docs/against-torchdeq.md.

    pip install --no-deps --target build/torchdeq torchdeq==0.1
    python -m benchmarks.core.solvers [--sizes 100000 1000000 10000000] [--device cpu] [--page docs/against-torchdeq.md]

Overhead is wall time minus the time spent in f, a float32 diagonal map, per evaluation. The two libraries alternate,
and the median over rounds is reported, so that a busy machine affects both alike. Large states get fewer rounds. If
other programs use the same cores, `--clock cpu --threads 1` counts this thread's CPU time instead.

- floor: the time for the memory traffic that a solver cannot avoid, at the bandwidth of a plain copy of 1e7 floats in
  the same run.
- cached: the same at the speed of a copy of one state. A small state fits into a cache that a history does not fit in.
- calls: the time of the torch calls that read and write the states, and nothing else: a lower bound for any library
  made of such calls.

For large states the C library requests pages from the system and returns them every time. The page faults cost more
than the work, and neither library can avoid them. So measure twice: unchanged, and with
MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000000 in the environment (glibc) and --table "overhead, memory kept".
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from benchmarks.core import torchdeq
from benchmarks.core.pages import markdown, with_table
from benchmarks.core.torchdeq import Run, ours, theirs
from deq_core.experiment.files import write_json, write_text

Problem = tuple[Callable[[Tensor], Tensor], Tensor]

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.thread_time}
WINDOW, STEPS, BATCH = 6, 30, 8
MEMORY = 10_000_000  # floats, more than any cache holds
HEADER = "solver, floats", "here", "torchdeq", "of torchdeq's", "of the floor", "torchdeq's", "cached", "of its calls"


@dataclass(frozen=True)
class Overhead:
    """Overhead of a solver in milliseconds per evaluation, without f."""

    solver: str
    size: int
    here: float
    torchdeq: float
    floor: float
    cached: float
    calls: float


class Timed:
    """Wraps f, and counts its calls and the seconds spent in it."""

    def __init__(self, f: Callable[[Tensor], Tensor], clock: Clock) -> None:
        self.f, self.clock, self.seconds, self.calls = f, clock, 0.0, 0

    def __call__(self, z: Tensor) -> Tensor:
        _wait(z)
        start = self.clock()
        fz = self.f(z)
        _wait(z)
        self.seconds += self.clock() - start
        self.calls += 1
        return fz


def overhead(run: Run, f: Callable[[Tensor], Tensor], z0: Tensor, clock: Clock) -> float:
    """Milliseconds per evaluation, without f."""
    timed = Timed(f, clock)
    _wait(z0)
    start = clock()
    run(timed, z0, STEPS, 0.0)
    _wait(z0)
    return 1e3 * (clock() - start - timed.seconds) / timed.calls


def diagonal(batch: int, size: int, device: torch.device) -> Problem:
    """A cheap map with eigenvalues spread over (-0.9, 0.9)."""
    slope = torch.linspace(-0.9, 0.9, size, device=device)
    shift = torch.randn(batch, size, generator=torch.Generator().manual_seed(0)).to(device)
    return lambda z: torch.addcmul(shift, slope, z), torch.zeros(batch, size, device=device)


def passes(kind: str) -> float:
    """Number of states that must be read or written per evaluation, on average over STEPS."""
    residual = 2  # z and f(z)
    match kind:
        case "anderson":  # two rows written, then one pass over the residuals and one over the f(z)
            history = statistics.mean(min(k, WINDOW) for k in range(1, STEPS + 1))
            return residual + 2 + 2 * history + 1
        case "broyden":  # one row written, two passes over the steps
            return residual + 1 + 2 * statistics.mean(range(STEPS)) + 1
    return residual


def calls(kind: str, z: Tensor) -> Callable[[], object]:
    """The torch calls on whole states in one evaluation, with a history of average length."""
    fz, difference = torch.randn_like(z), torch.randn_like(z)
    rows = {"anderson": WINDOW, "broyden": STEPS // 2}.get(kind, 0)
    history, values = (z.new_ones(len(z), max(rows, 1), z.shape[1]) for _ in range(2))
    weights = z.new_ones(len(z), 1, max(rows, 1))

    def run() -> object:
        if rows:
            row = history[:, 0]
            torch.sub(fz, z, out=row)
            residual = torch.linalg.vector_norm(row, dim=1), torch.linalg.vector_norm(fz, dim=1)
            products = torch.bmm(row[:, None], history.mT)
            if kind == "anderson":
                values[:, 0] = fz
                return residual, products, torch.bmm(weights, values)
            row[:, None].baddbmm_(weights, history, beta=0.0, alpha=0.0)
            return residual, products, z + row
        torch.sub(fz, z, out=difference)
        return torch.linalg.vector_norm(difference, dim=1), torch.linalg.vector_norm(fz, dim=1)

    return run


def _wait(like: Tensor) -> None:
    if like.is_cuda:
        torch.cuda.synchronize(like.device)


def milliseconds(run: Callable[[], object], like: Tensor, clock: Clock) -> float:
    _wait(like)
    start = clock()
    run()
    _wait(like)
    return 1e3 * (clock() - start)


def measure(name: str, pair: tuple[Run, Run], size: int, device: torch.device, rounds: int, clock: Clock) -> Overhead:
    """Medians over `rounds`, in each of which both libraries, the copies and the bare calls run."""
    f, z0 = diagonal(BATCH, size // BATCH, device)
    bare = calls(name, torch.randn_like(z0))
    copies = [copy(MEMORY, device), copy(z0.numel(), device)]
    found: list[list[float]] = [[], [], [], [], []]
    for _ in range(rounds + 1):
        for run, times in zip(pair, found[:2], strict=True):
            times.append(overhead(run, f, z0, clock))
        for run, times in zip([*copies, bare], found[2:], strict=True):
            times.append(statistics.median([milliseconds(run, z0, clock) for _ in range(10)]))
    here, there, memory, cache, made = (statistics.median(times[1:]) for times in found)  # the first round warms up
    once = passes(name) / 2  # a copy reads and writes
    return Overhead(name, size, here, there, once * memory * z0.numel() / MEMORY, once * cache, made)


def copy(size: int, device: torch.device) -> Callable[[], object]:
    """Returns a function that copies `size` floats."""
    source, target = torch.randn(size, device=device), torch.zeros(size, device=device)
    return lambda: target.copy_(source)


def table(rows: list[Overhead]) -> str:
    return markdown(
        HEADER,
        [
            [
                f"{row.solver}, 1e{len(str(row.size)) - 1}",
                f"{row.here:.3f} ms",
                f"{row.torchdeq:.3f} ms",
                f"{row.here / row.torchdeq:.2f}",
                f"{row.here / row.floor:.1f}x",
                f"{row.torchdeq / row.floor:.1f}x",
                f"{row.here / row.cached:.1f}x",
                f"{row.here / row.calls:.1f}x",
            ]
            for row in rows
        ],
    )


def rounds_for(size: int, most: int) -> int:
    """Fewer rounds for large states, whose times vary less: a round of Broyden on 1e7 takes half a minute."""
    return most if size <= 1_000_000 else max(3, most // 7)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    torchdeq.add_option(parser)
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    parser.add_argument("--rounds", type=int, default=21, help="rounds for sizes up to 1e6")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--solvers", nargs="+", default=["iteration", "anderson", "broyden"])
    parser.add_argument("--page", type=Path, help="page whose table is replaced, such as docs/against-torchdeq.md")
    parser.add_argument("--table", default="overhead", help="the table's name on that page")
    options = parser.parse_args()
    torchdeq.use(options.torchdeq)
    torch.set_num_threads(options.threads)
    pairs = {
        "iteration": (ours(deq.FixedPointIteration()), theirs("fixed_point_iter")),
        "anderson": (ours(deq.Anderson(window=WINDOW)), theirs("anderson", m=WINDOW)),
        "broyden": (ours(deq.Broyden()), theirs("broyden")),
    }
    device, rows = torch.device(options.device), []
    for name in options.solvers:
        for size in options.sizes:
            rounds = rounds_for(size, options.rounds)
            rows.append(measure(name, pairs[name], size, device, rounds, CLOCKS[options.clock]))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    if options.out is not None:
        write_json(options.out, [asdict(row) for row in rows])
    if options.page is not None:
        write_text(options.page, with_table(options.page.read_text(), options.table, table(rows)))


if __name__ == "__main__":
    main()
