"""Provenance of a result: commit, versions, machine and digests of files, as short strings."""

import contextlib
import getpass
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import torch


def of_process() -> dict[str, str]:
    """Commit, command, versions and device of this process."""
    stage = os.environ.get("DVC_STAGE")  # set by DVC, whichever engine called it
    tags = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine() + " cpu",
        "engine": os.environ.get("DEQ_ENGINE") or ("dvc" if stage else "none"),
        "mlflow.source.name": " ".join(sys.argv),
        "mlflow.source.type": "LOCAL",
        "threads": str(torch.get_num_threads()),
        "version.python": platform.python_version(),
        "version.torch": str(torch.__version__),
        **{f"version.{name}": version for name, version in _packages()},
        **_git(),
    }
    return {**tags, "dvc.stage": stage} if stage else tags


def user() -> str:
    """Name of the user, or "unknown" if the machine has no entry for the user ID."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def of_files(prefix: str, paths: Iterable[Path]) -> dict[str, str]:
    """`{"<prefix>.<path>": md5}` for each of `paths` that is a file; paths are written as in dvc.lock."""
    return {f"{prefix}.{name_of(path)}": md5(path) for path in paths if path.is_file()}


def name_of(path: Path) -> str:
    """`path` relative to the working directory if it is below it, with forward slashes.

    A link keeps its own name, as in DVC, whose outputs may be links into its cache.
    """
    full = path.parent.resolve() / path.name
    here = Path.cwd().resolve()
    return (full.relative_to(here) if full.is_relative_to(here) else full).as_posix()


def md5(path: Path) -> str:
    """MD5 of a file's content, under which DVC stores it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _packages() -> list[tuple[str, str]]:
    """Imported packages of this repository, with versions."""
    found = []
    for module in sorted(name for name in sys.modules if name.startswith("deq_") and "." not in name):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append((module.replace("_", "-"), metadata.version(module)))
    return found


def _git() -> dict[str, str]:
    """Commit of the working directory, and whether tracked files differ from it; empty outside a repository."""
    try:
        commit = _run("git", "rev-parse", "HEAD")
        changed = _run("git", "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"mlflow.source.git.commit": commit, "git.dirty": str(bool(changed)).lower()}


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
