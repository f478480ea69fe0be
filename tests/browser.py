"""A real browser without a window."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

PATIENCE = 210.0
"""Seconds; a few are enough on an idle machine."""


def page(address: str, profile: Path) -> str:
    """The document at `address` as it is after its scripts have run for a minute of the page's own time.

    A page in a file may look into others. Empty where the browser takes too long.
    """
    return visit(address, profile)[0]


def visit(address: str, profile: Path) -> tuple[str, list[str]]:
    """The document, as `page` has it, and what its scripts say on the console. No other machine can be asked."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser is not None, "no chromium on PATH: install it (Debian: apt-get install chromium) to test the pages"
    profile.mkdir()
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *quiet.split(), f"--user-data-dir={profile}"]
    shown = subprocess.Popen(
        [
            *command,
            "--allow-file-access-from-files",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--window-size=1600,1000",
            "--virtual-time-budget=60000",
            "--dump-dom",
            address,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        document, log = (stream.decode(errors="replace") for stream in shown.communicate(timeout=PATIENCE))
        return document, [line for line in log.splitlines() if ":CONSOLE" in line]
    except subprocess.TimeoutExpired:
        return "", []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shown.pid, signal.SIGKILL)
        shown.wait()
