"""Two thousand damaged files, the same every time, for all readers; `python -m tests.fuzz` tries more."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.fuzz.readers import READERS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the harness reads its memory from /proc")
def test_whatever_the_bytes_a_reader_returns_right_values_or_its_own_error() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--count", "2000"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2_000:]
    assert f"of {len(READERS)} readers" in run.stdout


def test_names_of_readers_are_different() -> None:
    assert len({reader.name for reader in READERS}) == len(READERS)
