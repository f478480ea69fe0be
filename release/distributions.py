"""Reproducible builds of wheels and source distributions."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from release.dependencies import ROOT

PACKAGES = ("deq-core", "deq-flow", "deq-vision", "deq-sequence")


class ReleaseError(Exception):
    """A distribution is not fit for a release."""


def build(source: Path, out: Path, *targets: str) -> list[Path]:
    """Builds the package in `source` into the new folder `out`: a source distribution and a wheel, or the `targets`.

    Their timestamps are SOURCE_DATE_EPOCH, by default the time of the last commit.
    """
    last = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True)
    epoch = {"SOURCE_DATE_EPOCH": last.stdout.strip(), **os.environ}
    chosen = [word for target in targets for word in ("--target", target)]
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(out.absolute()), *chosen]
    done = subprocess.run(command, cwd=source, env=epoch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise ReleaseError(f"{source} cannot be built:\n{done.stdout}")
    return sorted(out.iterdir())


def build_twice(name: str, folder: Path) -> list[Path]:
    """Builds wheel and source distribution of a package, returned in this order, and checks that they are reproducible.

    Both are built again from a copy elsewhere, and the wheel also from the source distribution.

    Raises:
        ReleaseError: a build failed, or its bytes differ.
    """
    source = ROOT / "packages" / name
    wheel, archive = build(source, folder / "built")
    copy = folder / "elsewhere" / name
    shutil.copytree(source, copy, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / ".gitignore", copy.parent / ".gitignore")  # part of a source distribution
    compare([wheel, archive], build(copy, folder / "again"))
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    compare([wheel], build(folder / archive.name.removesuffix(".tar.gz"), folder / "of-source", "wheel"))
    return [wheel, archive]


def compare(first: list[Path], second: list[Path]) -> None:
    """Raises ReleaseError unless two lists of files have the same names and bytes."""
    names = [path.name for path in first], [path.name for path in second]
    if names[0] != names[1]:
        raise ReleaseError(f"expected {', '.join(names[0])} from both builds, got {', '.join(names[1])}")
    for one, other in zip(first, second, strict=True):
        if one.read_bytes() != other.read_bytes():
            raise ReleaseError(f"{one} and {other} differ; diffoscope tells in what")
