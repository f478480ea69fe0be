"""A real MLflow server on 127.0.0.1, which a test may stop, kill and start again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 420.0
"""Seconds for server and browser together; two are enough on an idle machine, two hundred were seen on a busy one."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """A server on `database`, with its artifacts beside it, at an address that stays the same."""

    def __init__(self, database: Path):
        self.port = free_port()
        self.database, self.log = database, database.with_name("server.log")
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        place = str(self.database.parent / "artifacts")
        store = ["--backend-store-uri", f"sqlite:///{self.database}", "--artifacts-destination", place]
        command = [sys.executable, "-m", "mlflow", "server", *store, "--host", "127.0.0.1", "--port", str(self.port)]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with self.log.open("a") as written:
            self.process = subprocess.Popen(
                [*command, "--workers", "1"],
                cwd=self.database.parent,
                env=os.environ | quiet,
                stdout=written,
                stderr=written,
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the server ended:\n{self.log.read_text()}"
            with contextlib.suppress(urllib.error.URLError, OSError):
                if urllib.request.urlopen(f"{self.address}/health", timeout=10).status == 200:
                    return
            time.sleep(0.5)
        raise AssertionError(f"no answer at {self.address} within {PATIENCE:.0f} s:\n{self.log.read_text()}")

    def signal(self, number: signal.Signals) -> None:
        """To all its processes; it is over before this returns."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            if number == signal.SIGKILL:
                self.process.wait()


@contextlib.contextmanager
def server(database: Path) -> Iterator[Server]:
    """A server that has started and ends with the block."""
    running = Server(database)
    try:
        running.start()
        yield running
    finally:
        running.signal(signal.SIGKILL)
