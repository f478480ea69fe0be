"""What there is of a file that is being downloaded, and of which version of it."""

import os
from pathlib import Path

from deq_core.experiment.files import write_text

_PIECE = 1 << 20  # bytes


def begin(kept: Path, url: str, tag: str | None, date: str | None) -> None:
    """Notes which version of `url` is begun; a server that names none (or only a weak tag) cannot be continued."""
    version = tag if tag and not tag.startswith("W/") else date
    if version:
        write_text(mark(kept), f"{url}\n{version}\n")
    else:
        mark(kept).unlink(missing_ok=True)


def cut_zeros(kept: Path) -> None:
    """Removes the zeros at the end of what an earlier process left: a power cut puts them in place of the content."""
    if not kept.is_file():
        return
    with kept.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _PIECE)
            file.seek(start)
            found = len(file.read(end - start).rstrip(b"\0"))
            end = start + found
            if found:
                break
        file.truncate(end)


def version_of(kept: Path, url: str) -> str:
    """The version of `url` that `kept` was begun with; empty where it cannot be continued."""
    try:
        begun, version = mark(kept).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ValueError):
        return ""
    return version if begun == url else ""


def mark(kept: Path) -> Path:
    """The file beside `kept` that says which version it was begun with."""
    return kept.with_name(f"{kept.name}.version")


def size(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0
