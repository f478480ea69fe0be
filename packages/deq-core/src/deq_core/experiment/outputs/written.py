"""Records which command wrote a folder, in a hidden file in it; only recorded, unchanged files are ever replaced.

The record has the command's name and the digest of each of its files. It shows whether a folder has only unchanged
output of this command. Equal outputs have equal records.
"""

import contextlib
import hashlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

RECORD = ".deq-written"
"""Name of the record in a folder; it matches no pattern such as *.json."""


@dataclass(frozen=True)
class Writer:
    """The command that writes, or the caller of a function of the package."""

    command: str = ""
    """Name of the command, such as "deq-flow train"; empty if no command runs."""
    asked: Path | None = None
    """Output folder (with links resolved) that was checked by `require_own` before the work began."""
    found: tuple[int, int] | None = None
    """Its `identity` at that time."""

    def __str__(self) -> str:
        return f"`{self.command}`" if self.command else "this program"


_writer: ContextVar[Writer] = ContextVar("writer")


def writer() -> Writer:
    """The current writer."""
    return _writer.get(Writer())


@contextlib.contextmanager
def written_by(command: str, asked: Path | None = None) -> Iterator[None]:
    """Sets the writer in the block to `command`, with the output folder `asked`."""
    folder = None if asked is None else asked.resolve()
    token = _writer.set(Writer(command, folder, None if folder is None else identity(folder)))
    try:
        yield
    finally:
        _writer.reset(token)


def identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder, which change when it is replaced; None if there is none."""
    try:
        found = folder.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def stranger(folder: Path) -> str | None:
    """The first entry in `folder` that the writer did not write or that has changed, with the reason; None if none."""
    records = recorded(folder)
    own = records.get(writer().command, {})
    for name in entries(folder):  # names first: digests of another folder may take long
        if name not in own:
            others = [Writer(command) for command, names in records.items() if name in names]
            return f"{name}, which {others[0]} wrote" if others else f"{name}, which {writer()} did not write"
    changed = next((name for name in entries(folder) if own[name] != digest(folder / name)), None)
    return None if changed is None else f"{changed}, which was changed after {writer()} wrote it"


def strange(path: Path) -> str | None:
    """The reason why the file `path` is not the writer's unchanged output; None if it is, or does not exist."""
    if not os.path.lexists(path):
        return None
    left = owned(path.parent).get(path.name)
    if left is None:
        return f"{writer()} did not write the file that is there"
    return None if left == digest(path) else f"the file there was changed after {writer()} wrote it"


def give_back(old: Path, out: Path) -> None:
    """Removes the writer's recorded output from the folder `old`, and moves everything else to `out`.

    Entries whose names exist in `out` stay in `old`, which then gets a visible name beside `out`.
    """
    if old.is_dir() and not old.is_symlink():
        own = owned(old)
        for name in list(entries(old)):
            with contextlib.suppress(OSError):  # then `old` stays
                if own.get(name) is not None and own[name] == digest(old / name):
                    (old / name).rmdir() if (old / name).is_dir() else (old / name).unlink()
                elif not os.path.lexists(out / name):
                    (out / name).parent.mkdir(parents=True, exist_ok=True)
                    (old / name).rename(out / name)
        if recorded(old):
            (old / RECORD).unlink()
        for folder, _, _ in os.walk(old, topdown=False):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(folder)
    if os.path.lexists(old):
        keep(old, out, f"what was at {out}")


def keep(path: Path, out: Path, what: str) -> None:
    """Moves `path` to a new visible name beside `out`, with a message on stderr."""
    stem, suffix = (out.name, "") if path.is_dir() else (out.stem, out.suffix)
    kept = out.with_name(f"{stem}.kept-{secrets.token_hex(4)}{suffix}")
    path.replace(kept)
    print(f"{what} is kept as {kept}", file=sys.stderr)


def owned(folder: Path) -> Mapping[str, str]:
    """Digests by name of what the writer is recorded to have written into `folder`."""
    return recorded(folder).get(writer().command, {})


def recorded(folder: Path) -> dict[str, dict[str, str]]:
    """The record of `folder`, {command: {name: digest}}; empty if there is none or it is not valid."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError):
        return {}
    whole = isinstance(found, dict) and all(
        isinstance(names, dict) and all(isinstance(value, str) for value in names.values()) for names in found.values()
    )
    return found if whole else {}


def record_of(folder: Path, files: Mapping[str, str] | None = None) -> dict[str, dict[str, str]]:
    """The new record of `folder` after the writer has written all of it, or only `files`."""
    if files is None:
        digests = {name: digest(folder / name) for name in entries(folder)}
        return {writer().command: {name: value for name, value in digests.items() if value is not None}}
    others = {
        command: {name: value for name, value in names.items() if name not in files}
        for command, names in recorded(folder).items()
    }
    own = {**others.pop(writer().command, {}), **files}
    return {command: names for command, names in {**others, writer().command: own}.items() if names}


def entries(folder: Path) -> Iterator[str]:
    """Files, links and empty folders in `folder`, as sorted relative paths, without the record."""
    yield from _below(folder, "", hidden=RECORD if recorded(folder) else "")


def files_of(folder: Path) -> list[Path]:
    """All files below `folder`, sorted, without the record; empty if there is no folder."""
    return sorted(path for name in entries(folder) if (path := folder / name).is_file()) if folder.is_dir() else []


def digest(path: Path) -> str | None:
    """SHA-256 of a file, or "folder" for an empty folder; None for entries that are never removed.

    These are links, devices, and files and folders that their owner may not write or read, since protected files are
    meant to be kept.
    """
    try:
        mode = path.lstat().st_mode
        if not mode & stat.S_IWUSR or not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            return None
        if stat.S_ISDIR(mode):
            return "folder"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _below(folder: Path, prefix: str, hidden: str = "") -> Iterator[str]:
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if name == hidden:
            continue
        if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
            yield from _below(path, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}"
