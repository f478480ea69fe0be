"""Damages one small valid file of every reader, many times, and says what was not refused as it should be.

python -m tests.fuzz --count 2000                      of all readers together, as in `make test`
python -m tests.fuzz --reader flow/flo --count 1000
python -m tests.fuzz --reader flow/flo --index 17      one file; with --keep FILE it is written there
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from tests.fuzz import worker
from tests.fuzz.reader import Reader
from tests.fuzz.readers import READERS


def main() -> int:
    options = arguments()
    chosen = [reader for reader in READERS if reader.name == options.reader]
    chosen = chosen or [reader for reader in READERS if reader.name.startswith(options.reader)]
    if not chosen:
        print(f"no reader begins with {options.reader!r}; there are {', '.join(reader.name for reader in READERS)}")
        return 2
    others = [sample(reader) for reader in READERS]
    if options.index is not None:
        (reader,) = chosen
        data = worker.damaged_file(reader, sample(reader), options.seed, options.index, others)
        if options.keep is not None:
            options.keep.write_bytes(data)
        outcome = worker.run(reader, others, seed=options.seed, start=options.index, count=1)
        print(f"{len(data)} bytes: {outcome.faults[0][1] if outcome.faults else 'as it should be'}")
        return 1 if outcome.faults else 0
    return fuzz(chosen, others, options)


def fuzz(chosen: list[Reader], others: list[bytes], options: argparse.Namespace) -> int:
    """Every reader in turn, each with its share of the count."""
    outcomes: list[worker.Outcome] = []
    for reader in chosen:
        outcome = worker.run(reader, others, seed=options.seed, count=-(-options.count // len(chosen)))
        outcomes.append(outcome)
        print(
            f"{reader.name:34}{outcome.tried:8} files {outcome.refused:8} refused {outcome.read:8} read "
            f"{len(outcome.faults):4} faults {outcome.seconds:7.1f} s",
            flush=True,
        )
        for index, fault in outcome.faults:
            print(f"    --index {index}: {fault}", flush=True)
    tried, memory = sum(each.tried for each in outcomes), sum(each.memory for each in outcomes)
    faults = sum(len(each.faults) for each in outcomes)
    print(
        f"{tried} files of {len(chosen)} readers: {sum(each.refused for each in outcomes)} refused, "
        f"{sum(each.read for each in outcomes)} read, {memory} that asked for more than {worker.LARGEST >> 20} MiB, "
        f"{faults - memory} other faults"
    )
    return 1 if faults else 0


def sample(reader: Reader) -> bytes:
    """The valid file of a reader."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return reader.write(Path(folder)).read_bytes()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Damaged files for every reader.")
    parser.add_argument("--reader", default="", help="a name or its beginning; all readers without it")
    parser.add_argument("--count", type=int, default=20_000, help="damaged files, of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--index", type=int, help="this file alone, of the one reader")
    parser.add_argument("--keep", type=Path, help="where to write that file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
