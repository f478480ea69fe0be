"""One process sends to MLflow what the jobs of a Snakemake record, so that they need not load it (docs/tracking.md)."""

import os
import subprocess
import sys

from workflows import stage

LAST = 60.0
"""Seconds that a Snakemake waits for it in the end; then it goes on alone."""


def start() -> subprocess.Popen[bytes]:
    """It lives until its standard input is closed, and so no longer than this process; Ctrl-C does not reach it."""
    command = [sys.executable, "-m", "deq_core.experiment.tracking.sender"]
    environment = {**os.environ, "PYTHONPATH": stage.search_path()}
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, env=environment)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Has it send what is left, and waits for that."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(LAST)
    except subprocess.TimeoutExpired:
        print(f"what the jobs recorded is still being sent to MLflow (process {process.pid})", file=sys.stderr)
