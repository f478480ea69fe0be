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
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser is not None, "no chromium on PATH: install it (Debian: apt-get install chromium) to test the pages"
    profile.mkdir()
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *quiet.split(), f"--user-data-dir={profile}"]
    shown = subprocess.Popen(
        [
            *command,
            "--allow-file-access-from-files",
            "--window-size=1600,1000",
            "--virtual-time-budget=60000",
            "--dump-dom",
            address,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return shown.communicate(timeout=PATIENCE)[0].decode()
    except subprocess.TimeoutExpired:
        return ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shown.pid, signal.SIGKILL)
        shown.wait()
