"""One process that sends the records of all jobs to MLflow, so that jobs need not load it (docs/tracking.md)."""

import os
import subprocess
import sys

from workflows import stage

LAST = 60.0
"""Seconds that Snakemake waits for the process in the end; after that the process continues on its own."""


def start() -> subprocess.Popen[bytes]:
    """Starts the process, which ends when its standard input is closed. Ctrl-C does not reach it."""
    command = [sys.executable, "-m", "deq_core.experiment.tracking.sender"]
    environment = {**os.environ, "PYTHONPATH": stage.search_path()}
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, env=environment)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Lets the process send the rest, and waits for it."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(LAST)
    except subprocess.TimeoutExpired:
        print(f"what the jobs recorded is still being sent to MLflow (process {process.pid})", file=sys.stderr)
