"""Memory of correlations, with all pairs stored or computed on the fly.

    python -m benchmarks.flow.correlation_memory [--model deq-flow-base] [--steps 2] [--limit 8e9] [--write]

For each size of images it counts the correlation volume. It also measures the peak resident memory of a process, Python
and torch included, that runs one pair through the whole network without autograd, and of one that makes one lookup into
features of 256 channels with its backward pass. All pairs are not measured if their volume exceeds half of `--limit`
bytes. The count depends on shapes alone; the resident memory depends slightly on allocator and threads, but not on the
number of steps, because plain iteration keeps one state.
"""

import argparse
import resource
import subprocess
import sys
from pathlib import Path
from typing import Literal

import torch

from benchmarks.core.pages import markdown, with_table
from deq_core.experiment.files import write_text
from deq_flow import build
from deq_flow.models.lookup.correlation import VOLUME_LIMIT, correlation
from deq_flow.models.network import positions

Kind = Literal["all-pairs", "on-the-fly"]
KINDS: tuple[Kind, ...] = ("all-pairs", "on-the-fly")
PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"
HEADER = (
    "images",
    "volume",
    "pair, all-pairs",
    "pair, on-the-fly",
    "lookup and backward, all-pairs",
    "lookup and backward, on-the-fly",
    "chosen",
)
NOT_RUN = "-"
SIZES = {"368x496": (368, 496), "436x1024": (436, 1024), "720x1280": (720, 1280), "1080x1920": (1080, 1920)}


def volume_entries(height: int, width: int, levels: int = 4) -> int:
    """Number of entries of the correlation volume of one pair at an eighth of the resolution, over all levels."""
    rows, columns = -(-height // 8), -(-width // 8)
    return rows * columns * sum((rows >> level) * (columns >> level) for level in range(levels))


def peak(model: str, height: int, width: int, kind: Kind, steps: int) -> int:
    """Peak resident memory, bytes, of a process that runs `work`."""
    command = [sys.executable, "-m", "benchmarks.flow.correlation_memory", "--child", model, str(height), str(width)]
    run = subprocess.run([*command, kind, str(steps)], check=True, capture_output=True, text=True)
    return int(run.stdout)


def work(model: str, height: int, width: int, kind: Kind, steps: int) -> None:
    """Runs one pair through the network without autograd; for the model "lookup", one lookup and its backward pass."""
    torch.manual_seed(0)
    if model == "lookup":
        grid = (1, 256, -(-height // 8), -(-width // 8))
        first, second = torch.randn(grid, requires_grad=True), torch.randn(grid, requires_grad=True)
        correlation(first, second, kind=kind)(positions(first.detach())).sum().backward()
        return
    network = build(model, correlation=kind).eval()
    with torch.inference_mode():
        network(255 * torch.rand(1, 3, height, width), 255 * torch.rand(1, 3, height, width), steps=steps)


def rows(model: str, steps: int, limit: float) -> list[list[str]]:
    """The rows of the table, one for each size."""
    out = []
    for name, (height, width) in SIZES.items():
        volume = 4 * volume_entries(height, width)
        fits = {"all-pairs": 2 * volume < limit, "on-the-fly": True}
        peaks = [
            gigabytes(peak(what, height, width, kind, steps)) if fits[kind] else NOT_RUN
            for what in (model, "lookup")
            for kind in KINDS
        ]
        out.append([name, gigabytes(volume), *peaks, KINDS[volume_entries(height, width) > VOLUME_LIMIT]])
    return out


def gigabytes(count: float) -> str:
    """Bytes as GB with two decimals."""
    return f"{count / 1e9:.2f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="deq-flow-base")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--limit", type=float, default=8e9, help="bytes; a volume of more than half of it is not made")
    parser.add_argument("--write", action="store_true", help="put the table into docs/checkpoints.md")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        model, height, width, kind, steps = options.child
        work(model, int(height), int(width), kind, int(steps))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        return
    table = markdown(HEADER, rows(options.model, options.steps, options.limit))
    print(table)
    if options.write:
        write_text(PAGE, with_table(PAGE.read_text(), "correlation", table))


if __name__ == "__main__":
    main()
