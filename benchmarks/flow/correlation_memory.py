"""Memory of the two ways of reading correlations: all pairs stored, or computed on the fly.

    python -m benchmarks.flow.correlation_memory [--model deq-flow-base] [--steps 2] [--limit 8e9] [--out FILE]

For every size of images it counts the entries of the correlation volume, and what autograd saves for the backward pass
of one lookup; and it measures, each in a process of its own, the largest resident set (Python and torch included) of
one pair through the whole network without autograd. Where the volume alone would pass `--limit` bytes the network is
not run with it. Counts depend on shapes alone; the resident set depends a little on allocator and threads, and not on
the number of steps, because plain iteration keeps one state.
"""

import argparse
import resource
import subprocess
import sys
from pathlib import Path
from typing import Literal

import torch

from benchmarks.flow.saved_bytes import SavedStorages
from deq_core.experiment.files import write_text
from deq_flow import build
from deq_flow.models.correlation import VOLUME_LIMIT, correlation

Kind = Literal["all-pairs", "on-the-fly"]
KINDS: tuple[Kind, ...] = ("all-pairs", "on-the-fly")
SIZES = {"368x496": (368, 496), "436x1024": (436, 1024), "1080x1920": (1080, 1920), "2160x3840": (2160, 3840)}


def volume_entries(height: int, width: int, levels: int = 4) -> int:
    """Entries of the correlation volume of one pair on a grid of eighths, all levels."""
    rows, columns = -(-height // 8), -(-width // 8)
    return rows * columns * sum((rows >> level) * (columns >> level) for level in range(levels))


def lookup_saves(height: int, width: int, kind: Kind, channels: int = 256) -> int:
    """Bytes that autograd saves for one lookup on the grid of a pair, the features themselves included."""
    grid = (1, channels, -(-height // 8), -(-width // 8))
    first, second = torch.zeros(grid, requires_grad=True), torch.zeros(grid, requires_grad=True)
    position = torch.zeros(1, 2, *grid[2:])
    saved = SavedStorages(set())
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        kept = correlation(first, second, kind=kind)(position)
    total = saved.total
    del kept  # alive until here, so that no address was used twice
    return total


def peak(model: str, height: int, width: int, kind: Kind, steps: int) -> int:
    """Largest resident set, bytes, of a process that estimates the flow of one pair."""
    command = [sys.executable, "-m", "benchmarks.flow.correlation_memory", "--child", model, str(height), str(width)]
    run = subprocess.run([*command, kind, str(steps)], check=True, capture_output=True, text=True)
    return int(run.stdout)


def estimate(model: str, height: int, width: int, kind: Kind, steps: int) -> int:
    """What the child does: one pair, and the largest resident set so far."""
    torch.manual_seed(0)
    network = build(model, correlation=kind).eval()
    with torch.inference_mode():
        network(255 * torch.rand(1, 3, height, width), 255 * torch.rand(1, 3, height, width), steps=steps)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def table(model: str, steps: int, limit: float) -> str:
    """The measurements in Markdown."""
    lines = [
        "| images | correlation volume | saved by a lookup, all-pairs | on-the-fly | peak, all-pairs | on-the-fly |",
        "| :--- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, (height, width) in SIZES.items():
        volume = 4 * volume_entries(height, width)
        cells = [f"{volume / 1e9:.2f} GB"]
        cells += [
            f"{lookup_saves(height, width, kind) / 1e9:.2f} GB" if kind == "on-the-fly" or 2 * volume < limit else "-"
            for kind in KINDS
        ]
        cells += [
            f"{peak(model, height, width, kind, steps) / 1e9:.2f} GB"
            if kind == "on-the-fly" or 2 * volume < limit
            else "-"
            for kind in KINDS
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    chosen = {
        name: "on-the-fly" if volume_entries(*size) > VOLUME_LIMIT else "all-pairs" for name, size in SIZES.items()
    }
    return "\n".join(
        [*lines, "", "Chosen by itself: " + ", ".join(f"{k} at {name}" for name, k in chosen.items()) + "."]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="deq-flow-base")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--limit", type=float, default=8e9)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        model, height, width, kind, steps = options.child
        print(estimate(model, int(height), int(width), kind, int(steps)))
        return
    text = table(options.model, options.steps, options.limit)
    print(text)
    if options.out:
        write_text(options.out, text + "\n")


if __name__ == "__main__":
    main()
