"""Time of DEQ-Flow for one pair, against a direct port of the released computation: docs/deq-flow.md.

    python -m benchmarks.flow.inference_time [--model deq-flow-base] [--steps 24] [--threads 1] [--clock cpu] [--write]

Both have the same random weights and images. They take turns, so that a change in the machine's speed affects both; the
ratio is that of the fastest runs. `--clock cpu` measures the CPU time of all threads, for machines with other load. The
last line is the difference of their flows.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import deq_core as deq
from benchmarks.core.pages import markdown, with_table
from benchmarks.flow.straight import Straight
from deq_core.experiment.files import write_text
from deq_flow import build
from deq_flow.models import DEQFlow

PAGE = Path(__file__).parents[2] / "docs" / "deq-flow.md"
HEADER = ("part", "straight port", "deq_flow", "ratio")


def networks(name: str, steps: int) -> tuple[DEQFlow, Straight]:
    """A network with random weights and `steps` plain iterations, and its port."""
    torch.manual_seed(0)
    network = build(name, stop=deq.Stop(max_steps=steps, tol=None), correlation="all-pairs").eval()
    assert isinstance(network, DEQFlow)
    return network, Straight(network)


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def fastest(runs: Sequence[Callable[[], object]], repeats: int, clock: Callable[[], float]) -> list[float]:
    """Least time of each run in `repeats` turns, seconds, after one turn to warm up."""
    taken = [[] for _ in runs]
    for turn in range(repeats + 1):
        for run, times in zip(runs, taken, strict=True):
            start = clock()
            run()
            if turn:
                times.append(clock() - start)
    return [min(times) for times in taken]


def measure(
    name: str, height: int, width: int, steps: int, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[list[list[str]], float, float]:
    """Rows of the table, the largest difference of the two flows, and the largest flow, pixels."""
    network, straight = networks(name, steps)
    generator = torch.Generator().manual_seed(1)
    image1, image2 = 255 * torch.rand(2, 1, 3, height, width, generator=generator)
    with torch.inference_mode():
        ours, theirs = network(image1, image2, steps=steps).flow, straight(image1, image2, steps)
        whole = fastest(
            [lambda: straight(image1, image2, steps), lambda: network(image1, image2, steps=steps)], repeats, clock
        )
        pair = network.encode(image1, image2)
        f, start = network.map(pair), network.start(pair)
        step = fastest([straight.step_of(image1, image2), lambda: f(*start)], 3 * repeats, clock)
    rows = [row(f"pair, {steps} evaluations", whole), row("one evaluation", step)]
    return rows, float((ours - theirs).abs().max()), float(theirs.abs().max())


def row(part: str, times: Sequence[float]) -> list[str]:
    """A row with both times, and the ratio of ours to the port's."""
    theirs, ours = times
    return [part, f"{theirs:.3f} s", f"{ours:.3f} s", f"{ours / theirs:.2f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and with --write writes it to the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="deq-flow-base")
    parser.add_argument("--height", type=int, default=436)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    size, clock = (options.height, options.width), CLOCKS[options.clock]
    rows, difference, largest = measure(options.model, *size, options.steps, options.repeats, clock)
    table = markdown(HEADER, rows)
    print(table)
    print(f"the flows differ by {difference:.1e} pixels, of up to {largest:.1f}")
    if options.write:
        write_text(PAGE, with_table(PAGE.read_text(), "inference-time", table))


if __name__ == "__main__":
    main()
