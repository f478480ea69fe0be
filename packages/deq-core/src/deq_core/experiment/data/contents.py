"""Digests of the files of a data set, which show whether it has changed."""

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path

HASHED = 1 << 30
"""Limit on the bytes of a data set whose files are hashed, which takes some seconds."""


def contents(paths: Iterable[Path], sized: Collection[str] | None = None) -> list[tuple[str, str]]:
    """Each file, links resolved, with its SHA-256 digest, or with its size if all files together exceed `HASHED`.

    Args:
        paths: the files.
        sized: suffixes, in lower case, of files for which a size suffices; all by default.
    """
    sizes = {path: path.stat().st_size for path in sorted({path.resolve() for path in paths})}
    small = sum(sizes.values()) <= HASHED

    def told(path: Path) -> str:
        by_size = not small and (sized is None or path.suffix.lower() in sized)
        return str(sizes[path]) if by_size else digest(path)

    return [(str(path), told(path)) for path in sizes]


def digest(path: Path) -> str:
    """The SHA-256 digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
