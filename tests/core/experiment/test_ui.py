"""The tracking server's own page, in a real browser, shows the runs that `track` wrote."""

import time
import urllib.request
import webbrowser
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
def test_the_page_names_every_run_and_the_server_starts_nothing_else(
    tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for pipeline in ("flow", "vision"):
        for seed in (0, 1):
            with track(f"{pipeline}.train", {"lr": 1e-3}, out=tmp_path / "out", seed=seed) as log:
                for step in range(1, 6):
                    log({"loss": 1 / step}, step)
    names = [f"{pipeline}.train seed {seed}" for pipeline in ("flow", "vision") for seed in (0, 1)]
    document = address = ""
    commands: list[str] = []

    def look(shown: str) -> None:
        nonlocal document, address
        address = shown
        commands.extend(" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True))
        end = time.monotonic() + PATIENCE
        attempt = 0
        while time.monotonic() < end and not all(name in document for name in names):
            attempt += 1
            document = page(shown, tmp_path / f"profile{attempt}")
        raise KeyboardInterrupt

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", look)
    ui.main(["--port", str(free_port())])
    assert capsys.readouterr().out == f"The runs: {address}\nCtrl-C ends the server.\n"
    assert address.startswith("http://127.0.0.1:")
    assert commands
    assert not [command for command in commands if "job" in command or "huey" in command]
    missing = [name for name in names if name not in document]
    assert not missing, f"the page names no {missing}:\n{document[:4000]}"
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address.partition("#")[0], timeout=10)
