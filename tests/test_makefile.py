"""`make` keeps an environment in the folder of its checkout, and leaves that of another one alone."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/sh
echo "$@" >> calls
if test "$1" = -c; then echo 3.12.1; fi
if test "$2" = venv; then
    rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python
fi
"""
"""In the place of an interpreter, and of the one of its environment."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One in a folder with a space."""
    return made(tmp_path / "a checkout")


def made(folder: Path) -> Path:
    """A checkout in which an environment was made."""
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("constraints.txt", "requirements.txt", "pyproject.toml"):
        (folder / name).touch()
    (folder / "python").write_text(PYTHON)
    (folder / "python").chmod(0o755)
    make(folder, "install")
    return folder


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "calls").write_text("")
    return subprocess.run(["make", "PYTHON=./python", *words], cwd=folder, capture_output=True, text=True)


def calls(folder: Path) -> list[str]:
    """The modules that interpreters ran."""
    return [line.split()[1] for line in (folder / "calls").read_text().splitlines() if line.startswith("-m")]


def test_an_environment_is_made_once_and_anew_where_it_is_of_another_folder_or_python_or_was_not_finished(
    checkout: Path, tmp_path: Path
) -> None:
    assert calls(checkout) == ["venv", "pip"]
    assert make(checkout, "install").returncode == 0
    assert calls(checkout) == []
    moved = tmp_path / "moved"
    checkout.rename(moved)
    make(moved, "help")
    assert (moved / ".venv/installed").read_text() == f"{checkout}\n"
    assert make(moved, "install").returncode == 0
    assert calls(moved) == ["venv", "pip"]
    (moved / ".venv-unfinished").touch()
    (moved / ".venv/installed").unlink()
    assert make(moved, "install").returncode == 0
    assert calls(moved) == ["venv", "pip"]
    (moved / "python").write_text(PYTHON.replace("3.12.1", "3.13.0"))
    assert make(moved, "help").returncode == 0
    assert calls(moved) == []
    assert make(moved, "install").returncode == 0
    assert calls(moved) == ["venv", "pip"]
    (moved / "requirements.txt").write_text("torch")
    assert make(moved, "install").returncode == 0
    assert calls(moved) == ["pip"]


def test_an_environment_that_is_linked_from_another_checkout_is_left_as_it_is(checkout: Path, tmp_path: Path) -> None:
    """As one may have it in a worktree of git."""
    tree = made(tmp_path / "tree")
    shutil.rmtree(tree / ".venv")
    (tree / ".venv").symlink_to("../a checkout/.venv")
    assert make(tree, "help").returncode == 0
    process = make(tree, "install")
    assert process.returncode != 0
    assert f".venv is a link to that of {checkout}; remove the link, and make installs one here" in process.stderr
    assert calls(tree) == []
    assert make(checkout, "install").returncode == 0
    assert calls(checkout) == []
