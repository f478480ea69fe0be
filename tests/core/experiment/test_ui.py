"""The tracking server's own page, in a real browser, shows the runs that `track` wrote."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deq_core.experiment.tracking.run import connect, track

PATIENCE = 420.0
"""Seconds for server and browser together; two are enough on an idle machine, two hundred were seen on a busy one."""


@contextlib.contextmanager
def server(database: Path) -> Iterator[str]:
    """The address of an MLflow server on `database`, which ends with the block together with all its processes."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{database}", "--default-artifact-root", str(database.parent)]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--host", "127.0.0.1", "--port", str(port)]
    log = database.parent / "server.log"
    with log.open("w") as written:
        process = subprocess.Popen(
            [*command, "--workers", "1"], cwd=database.parent, stdout=written, stderr=written, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address, process, log)
            yield address
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, f"the server ended with {process.returncode}:\n{log.read_text()}"
        with contextlib.suppress(urllib.error.URLError, OSError):
            if urllib.request.urlopen(f"{address}/health", timeout=10).status == 200:
                return
        time.sleep(0.5)
    raise AssertionError(f"the server did not answer at {address} within {PATIENCE:.0f} s:\n{log.read_text()}")


def page(browser: str, address: str, profile: Path) -> str:
    """The document at `address` as it is after its scripts have run for a minute of the page's own time."""
    profile.mkdir()
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *quiet.split(), f"--user-data-dir={profile}"]
    shown = subprocess.Popen(
        [*command, "--window-size=1600,1000", "--virtual-time-budget=60000", "--dump-dom", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return shown.communicate(timeout=PATIENCE / 2)[0].decode()
    except subprocess.TimeoutExpired:
        return ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shown.pid, signal.SIGKILL)
        shown.wait()


@pytest.mark.slow
def test_the_runs_page_names_every_run(tracking_database: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser is not None, "no chromium on PATH: install it (Debian: apt-get install chromium) to test the pages"
    for seed in (0, 1):
        with track("flow.train", {"lr": 1e-3}, out=tmp_path / "out", seed=seed) as log:
            for step in range(1, 6):
                log({"loss": 1 / step}, step)
    experiment = connect().get_experiment_by_name("flow")
    assert experiment is not None
    names = ["flow.train seed 0", "flow.train seed 1"]
    document = ""
    with server(tracking_database) as address:
        runs = f"{address}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
        end = time.monotonic() + PATIENCE
        attempt = 0
        while time.monotonic() < end and not all(name in document for name in names):
            attempt += 1
            document = page(browser, runs, tmp_path / f"profile{attempt}")
    missing = [name for name in names if name not in document]
    assert not missing, f"the page names no {missing}:\n{document[:4000]}"
