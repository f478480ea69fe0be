"""Finds damaged entries of DVC's cache, and repairs or removes them.

DVC trusts read-only files of its cache without reading them, and has no option to check them. The name of an entry is
the MD5 of its content, so a damaged one shows. It is restored from the workspace if that has the content, and removed
otherwise, so that DVC finds it missing and makes it again.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ENTRY = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?")
LOCK = Path("dvc.lock")


class CacheError(RuntimeError):
    """A damaged entry can neither be repaired nor removed."""


def mend(md5s: Iterable[str] | None = None) -> bool:
    """Repairs the entries of these names, or all, and prints a line for each; returns whether any was damaged.

    Writable entries are left to DVC, which checks them itself.

    Raises:
        CacheError: the cache is not writable.
    """
    store = folder()
    if md5s is None:
        paths = (path for path in store.glob("*/*") if ENTRY.fullmatch(f"{path.parent.name}/{path.name}"))
    else:
        paths = (store / md5[:2] / md5[2:] for md5 in md5s)
    damaged = [path for path in sorted(paths) if is_kept_unread(path) and md5_of(path) != path.parent.name + path.stem]
    copies = defaultdict(list)
    for outputs in recorded().values() if damaged else ():
        for path, md5 in outputs.items():
            for part, of_part in below(path, md5, store):
                copies[of_part].append(part)
    for path in damaged:
        done = replace(path, copies[path.parent.name + path.name])
        print(f"{path}: damaged, its content does not have the MD5 in its name; {done}", file=sys.stderr)
    return bool(damaged)


def mend_outputs_of(stage: str) -> None:
    """Repairs the entries of the outputs that dvc.lock records for `stage`.

    Raises:
        CacheError: as in `mend`.
    """
    store = folder()
    mend([name for path, md5 in recorded().get(stage, {}).items() for _, name in below(path, md5, store)])


def folder() -> Path:
    """The folder of the entries, which are named by MD5."""
    return Path(os.path.relpath(settings().get("dir") or ".dvc/cache")) / "files" / "md5"


def settings() -> Mapping[str, Any]:
    """The section on the cache in DVC's configuration."""
    from dvc.config import Config
    from dvc.exceptions import DvcException

    try:
        return Config(".dvc")["cache"]
    except DvcException:  # DVC, which is called next, reports errors in its configuration
        return {}


def is_kept_unread(entry: Path) -> bool:
    """Whether DVC trusts an entry without reading it, because it is read-only."""
    try:
        mode = entry.lstat().st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) and not mode & 0o222


def md5_of(path: Path) -> str:
    """The MD5 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def recorded() -> dict[str, Mapping[Path, str]]:
    """The outputs of each stage in dvc.lock, with their MD5; empty without dvc.lock."""
    if not LOCK.exists():
        return {}
    lock = yaml.load(LOCK.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    return {
        name: {Path(out["path"]): out["md5"] for out in stage.get("outs", ()) if "md5" in out}
        for name, stage in (lock.get("stages") or {}).items()
    }


def below(path: Path, md5: str, store: Path) -> Iterator[tuple[Path, str]]:
    """An output and its MD5, and for a folder also its files, unless its listing is missing or damaged."""
    yield path, md5
    listing = store / md5[:2] / md5[2:]
    if md5.endswith(".dir") and listing.exists() and md5_of(listing) == md5.removesuffix(".dir"):
        yield from ((path / file["relpath"], file["md5"]) for file in json.loads(listing.read_bytes()))


def replace(entry: Path, copies: Iterable[Path]) -> str:
    """Replaces a damaged entry by a copy with the right content, or removes it; returns what was done, in words.

    Raises:
        CacheError: the folder is not writable.
    """
    copies = list(copies)
    try:
        for copy in copies:
            if copy.is_file() and md5_of(copy) == entry.parent.name + entry.name:
                beside = entry.with_name(f"{entry.name}.mended")
                shutil.copyfile(copy, beside)
                beside.chmod(0o444)
                os.replace(beside, entry)
                return f"put back from {copy}"
        entry.unlink()
    except OSError as error:
        raise CacheError(f"{entry}: damaged, and can neither be repaired nor removed ({error}); delete it") from error
    return f"removed; {copies[0]} is made again" if copies else "removed; no result in dvc.lock has it"
