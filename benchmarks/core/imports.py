"""Cost of importing deq_core in addition to torch: docs/against-torchdeq.md.

    python -m benchmarks.core.imports [--rounds 21] [--write]

CPU seconds, user and system, of a new interpreter that does nothing else; medians over alternating runs.
"""

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.core.pages import markdown, with_table
from deq_core.experiment.files import write_text

PAGE = Path(__file__).parents[2] / "docs" / "against-torchdeq.md"
MODULES = ("torch", "deq_core")


def seconds(module: str) -> float:
    """CPU seconds of a new interpreter that imports `module`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--write", action="store_true", help="replace the table in the page")
    options = parser.parse_args()
    rounds = [[seconds(module) for module in MODULES] for _ in range(options.rounds + 1)][1:]  # the first warms up
    torch, both = (statistics.median(times) for times in zip(*rounds, strict=True))
    table = markdown(["import", "CPU seconds"], [["torch", f"{torch:.2f}"], ["deq_core", f"{both:.2f}"]])
    print(f"{table}\nratio {both / torch:.3f}")
    if options.write:
        table = markdown(["torch", "deq_core", "ratio"], [[f"{torch:.2f} s", f"{both:.2f} s", f"{both / torch:.2f}"]])
        write_text(PAGE, with_table(PAGE.read_text(), "import", table))


if __name__ == "__main__":
    main()
