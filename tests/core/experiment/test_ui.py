"""The tracking server's own page, in a real browser, shows the runs that `track` wrote."""

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from tests.browser import page
from tests.core.experiment.mlflow_server import PATIENCE, free_port

from deq_core.experiment.tracking import ui
from deq_core.experiment.tracking.run import track


def test_a_store_with_a_password_is_served_and_no_command_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = "postgresql://me:secret@host/runs"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert ui.environment()["MLFLOW_BACKEND_STORE_URI"] == store
    assert "secret" not in " ".join(ui.command(5000))


@pytest.mark.slow
def test_the_page_names_every_run_and_the_server_starts_nothing_else(tracking_database: Path, tmp_path: Path) -> None:
    for pipeline in ("flow", "vision"):
        for seed in (0, 1):
            with track(f"{pipeline}.train", {"lr": 1e-3}, out=tmp_path / "out", seed=seed) as log:
                for step in range(1, 6):
                    log({"loss": 1 / step}, step)
    names = [f"{pipeline}.train seed {seed}" for pipeline in ("flow", "vision") for seed in (0, 1)]
    document = ""
    command = [sys.executable, "-m", "deq_core.experiment.tracking.ui", "--port", str(free_port())]
    shown = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert shown.stdout is not None
        runs = shown.stdout.readline().removeprefix("The runs: ").strip()
        assert runs.startswith("http://127.0.0.1:")
        commands = [" ".join(process.cmdline()) for process in psutil.Process(shown.pid).children(recursive=True)]
        assert commands
        assert not [command for command in commands if "job" in command or "huey" in command]
        end = time.monotonic() + PATIENCE
        attempt = 0
        while time.monotonic() < end and not all(name in document for name in names):
            attempt += 1
            document = page(runs, tmp_path / f"profile{attempt}")
    finally:
        shown.terminate()
        shown.communicate(timeout=PATIENCE)
    missing = [name for name in names if name not in document]
    assert not missing, f"the page names no {missing}:\n{document[:4000]}"
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(runs.partition("#")[0], timeout=10)
