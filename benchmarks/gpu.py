"""Everything that needs a GPU, in one run of at most eight minutes.

    python -m benchmarks.gpu --out gpu.json [--seconds 480] [--only tests solvers]

The parts are the tests marked `gpu`; solvers compared with torchdeq's; memory of a training step of flow and language
models against iterations; time and memory of a pair of 436x1024. Each part runs in its own process and is stopped at
the end of its time; its output until then is kept. The file is written after every part, so that an interruption loses
nothing.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deq_core.experiment.files import write_json

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Part:
    """A module to run, and its time limit in seconds."""

    arguments: tuple[str, ...]
    seconds: float


PARTS = {
    "tests": Part(("pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--durations=10"), 200),
    "pairs": Part(("benchmarks.gpu", "--pairs"), 90),
    "flow training memory": Part(("benchmarks.flow.training_memory", "--device", "cuda"), 60),
    "sequence training memory": Part(("benchmarks.sequence.training_memory", "--device", "cuda"), 40),
    "solvers": Part(("benchmarks.core.solvers", "--device", "cuda", "--rounds", "11", "--sizes", "1000000"), 90),
}
"""Parts by priority."""


def run(part: Part, left: float) -> dict[str, Any]:
    """Runs a part within its time and the time left, and returns status, seconds, and the end of its output."""
    began, limit = time.monotonic(), min(part.seconds, left)
    command = [sys.executable, "-m", *part.arguments]
    found: dict[str, Any] = {"command": " ".join(["python", "-m", *part.arguments]), "limit": round(limit, 1)}
    try:
        process = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit, check=False
        )
        found["status"], printed = process.returncode, process.stdout
    except subprocess.TimeoutExpired as error:
        found["status"], printed = "out of time", error.stdout or b""
    return {
        **found,
        "seconds": round(time.monotonic() - began, 1),
        "printed": printed.decode(errors="replace")[-20000:],
    }


def run_all(parts: Mapping[str, Part], seconds: float, out: Path) -> dict[str, Any]:
    """Runs parts one after another until the time is over, and writes the results to a file."""
    end = time.monotonic() + seconds
    found: dict[str, Any] = {"machine": machine(), "parts": {}}
    for name, part in parts.items():
        left = end - time.monotonic()
        found["parts"][name] = run(part, left) if left > 5 else {"status": "no time left"}
        write_json(out, found)
        print(f"{name}: {found['parts'][name]['status']}, {found['parts'][name].get('seconds', 0)} s", flush=True)
    return found


def machine() -> dict[str, str]:
    """Device, versions and commit of the measurements."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def pairs(device: str, height: int = 436, width: int = 1024, repeats: int = 5) -> None:
    """Prints one line of JSON per network and number of iterations: milliseconds and peak memory of a pair."""
    import deq_core as deq
    from deq_flow import build

    generator = torch.Generator().manual_seed(0)
    images = [255 * torch.rand(1, 3, -(-height // 8) * 8, width, generator=generator).to(device) for _ in range(2)]
    for name in ("raft", "deq-flow-base", "deq-flow-huge"):
        for iterations in (12, 24, 36):
            stop = {} if name == "raft" else {"stop": deq.Stop(max_steps=iterations, tol=None)}
            network = build(name, **stop).to(device).eval()
            steps = {"steps": iterations} if name == "raft" else {}
            times = []
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            with torch.inference_mode():
                for _ in range(repeats + 1):
                    began = time.perf_counter()
                    network(*images, **steps)
                    if device == "cuda":
                        torch.cuda.synchronize()
                    times.append(1000 * (time.perf_counter() - began))
            peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
            row = {"network": name, "iterations": iterations, "ms": round(min(times[1:]), 2), "peak_mb": peak // 10**6}
            print(json.dumps(row), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--seconds", type=float, default=480, help="of all parts together")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts")
    parser.add_argument("--pairs", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("python -m benchmarks.gpu: expected a CUDA device, got none; this is what needs one")
    if options.pairs:
        pairs("cuda")
        return
    run_all({name: PARTS[name] for name in options.only}, options.seconds, options.out)


if __name__ == "__main__":
    main()
