"""Wheels and source distributions, the same to the byte wherever and whenever they are built."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from release.dependencies import ROOT

PACKAGES = ("deq-core", "deq-flow", "deq-vision", "deq-sequence")


class ReleaseError(Exception):
    """What was built, or is to be, is not fit for a release."""


def build(source: Path, out: Path, *targets: str) -> list[Path]:
    """Builds the package in `source` into the new folder `out`: a source distribution and a wheel, or the `targets`.

    The time in them is SOURCE_DATE_EPOCH, by default that of the last commit.
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
    """Wheel and source distribution of a package, in this order, after a second build of each came out alike.

    The second ones are made of a copy elsewhere, and the wheel once more of what the source distribution holds.

    Raises:
        ReleaseError: one came out otherwise, or not at all.
    """
    source = ROOT / "packages" / name
    wheel, archive = build(source, folder / "built")
    copy = folder / "elsewhere" / name
    shutil.copytree(source, copy, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / ".gitignore", copy.parent / ".gitignore")  # it belongs to a source distribution
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
