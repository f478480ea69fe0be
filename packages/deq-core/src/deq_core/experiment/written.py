"""What a command wrote into a folder, by a hidden record in it: nothing else is ever replaced or removed.

The record has the command's name and the digest of each of its files, so that a folder is known to hold the output of
this command, all of it as it was left, and nothing of anybody else. Equal outputs have equal records.
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
"""Name of the record in a folder; no pattern such as *.json finds it."""


@dataclass(frozen=True)
class Writer:
    """Who writes: a command, or whoever calls a function of the package."""

    command: str = ""
    """Such as "deq-flow train"; empty where no command runs."""
    asked: Path | None = None
    """The folder, without links, that was found to be new or this writer's own before its work began."""
    found: tuple[int, int] | None = None
    """Which folder that was then, see `identity`."""

    def __str__(self) -> str:
        return f"`{self.command}`" if self.command else "this program"


_writer: ContextVar[Writer] = ContextVar("writer")


def writer() -> Writer:
    """Who writes now."""
    return _writer.get(Writer())


@contextlib.contextmanager
def written_by(command: str, asked: Path | None = None) -> Iterator[None]:
    """Whatever is written within the block is written by `command`, which has `asked` for a folder."""
    folder = None if asked is None else asked.resolve()
    token = _writer.set(Writer(command, folder, None if folder is None else identity(folder)))
    try:
        yield
    finally:
        _writer.reset(token)


def identity(folder: Path) -> tuple[int, int] | None:
    """Tells a folder from another one that has its name later; None where there is none."""
    try:
        found = folder.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def stranger(folder: Path) -> str | None:
    """Names the first thing in `folder` that the writer did not leave as it is now, and says why; None without any."""
    records = recorded(folder)
    own = records.get(writer().command, {})
    for name in entries(folder):  # names first: a folder of somebody else may take long to read
        if name not in own:
            others = [Writer(command) for command, names in records.items() if name in names]
            return f"{name}, which {others[0]} wrote" if others else f"{name}, which {writer()} did not write"
    changed = next((name for name in entries(folder) if own[name] != digest(folder / name)), None)
    return None if changed is None else f"{changed}, which is not as {writer()} left it"


def strange(path: Path) -> str | None:
    """Says why the file `path` is not the writer's own; None where it is, or there is none."""
    if not os.path.lexists(path):
        return None
    left = owned(path.parent).get(path.name)
    if left is None:
        return f"{writer()} did not write the file that is there"
    return None if left == digest(path) else f"the file there is not as {writer()} left it"


def give_back(old: Path, out: Path) -> None:
    """Removes from the folder `old` what the writer is recorded to have left there, and moves the rest to `out`.

    What has a name that is taken there stays where it is, and `old` becomes a folder beside `out` that can be seen.
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
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(folder)
    if os.path.lexists(old):
        keep(old, out, f"what was at {out}")


def keep(path: Path, out: Path, what: str) -> None:
    """Moves `path` to a new name beside `out` that can be seen, and says so."""
    stem, suffix = (out.name, "") if path.is_dir() else (out.stem, out.suffix)
    kept = out.with_name(f"{stem}.kept-{secrets.token_hex(4)}{suffix}")
    path.replace(kept)
    print(f"{what} is kept as {kept}", file=sys.stderr)


def owned(folder: Path) -> Mapping[str, str]:
    """What the writer is recorded to have written into `folder`: digests by name."""
    return recorded(folder).get(writer().command, {})


def recorded(folder: Path) -> dict[str, dict[str, str]]:
    """{command: {name: digest}}; empty where there is no record, or something else of that name."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError):
        return {}
    whole = isinstance(found, dict) and all(
        isinstance(names, dict) and all(isinstance(value, str) for value in names.values()) for names in found.values()
    )
    return found if whole else {}


def record_of(folder: Path, files: Mapping[str, str] | None = None) -> dict[str, dict[str, str]]:
    """The record of `folder` once the writer has written all of it, or these files in it."""
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
    """What lies in `folder`, as sorted paths relative to it: files, links, and folders without anything in them.

    The record is left out.
    """
    yield from _below(folder, "", hidden=RECORD if recorded(folder) else "")


def files_of(folder: Path) -> list[Path]:
    """The files in `folder` and below, sorted, less the record; none where there is no folder."""
    return sorted(path for name in entries(folder) if (path := folder / name).is_file()) if folder.is_dir() else []


def digest(path: Path) -> str | None:
    """The SHA-256 of a file, "folder" of an empty folder, and None of what stays where it is.

    That is a link, a device, and what its owner may not write or read: who protects a file wants to keep it.
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
