"""Partial downloads and the version that they belong to."""

import os
from pathlib import Path

from deq_core.experiment.files import write_text

_PIECE = 1 << 20  # bytes


def begin(kept: Path, url: str, tag: str | None, date: str | None) -> None:
    """Records the version of `url` that is begun. Without a strong ETag or a date, it cannot be resumed."""
    version = tag if tag and not tag.startswith("W/") else date
    if version:
        write_text(mark(kept), f"{url}\n{version}\n")
    else:
        mark(kept).unlink(missing_ok=True)


def cut_zeros(kept: Path) -> None:
    """Removes zeros at the end of a partial file, which a power cut may have left in place of content."""
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
    """The version of `url` that `kept` was begun with; empty if it cannot be resumed."""
    try:
        begun, version = mark(kept).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ValueError):
        return ""
    return version if begun == url else ""


def mark(kept: Path) -> Path:
    """Path of the file beside `kept` that records its version."""
    return kept.with_name(f"{kept.name}.version")


def size(path: Path) -> int:
    """Size of a file in bytes; 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0
