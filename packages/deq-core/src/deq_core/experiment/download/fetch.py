"""Downloads, checks and unpacks published data sets.

A published checksum is verified. If none is published, the checksum of the first archive that unpacks is recorded
beside it, and later downloads must match: the first download is trusted, and later changes are detected.
"""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from deq_core.experiment.download.resume import DownloadError, download
from deq_core.experiment.download.unpack import ArchiveError, is_archive, unpack
from deq_core.experiment.files import explained, output_file, write_text


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One file to download and, if it is an archive, to unpack."""

    out: str
    """Destination relative to the folder of the data: the folder that an archive is unpacked to, or the path of another
    file. A top-level folder of the same name in the archive becomes this folder."""
    urls: tuple[str, ...] = ()
    """URLs of the file, mirrors after the first. Empty if users must download it themselves."""
    name: str = ""
    """Name of the file; by default that in the first URL."""
    checksum: str | None = None
    """Published checksum, "sha256:..." or "md5:..."; None if none is published."""

    def __post_init__(self) -> None:
        if not self.file or "/" in self.file or self.file in (".", ".."):
            raise ValueError(f"{self.out}: an archive needs a name, or a URL that ends in one, got {self.file!r}")
        place = PurePosixPath(self.out)
        if not place.parts or place.is_absolute() or ".." in place.parts:
            raise ValueError(f"{self.file}: out must be a path below the folder of the data, got {self.out!r}")
        for url in self.urls:
            if not url.startswith(("https://", "http://")):
                raise ValueError(f"{self.file}: expected an http or https URL, got {url!r}")
        if self.checksum is not None and not re.fullmatch(r"(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})", self.checksum):
            raise ValueError(f"{self.file}: checksum must be 'sha256:' or 'md5:' and hex digits, got {self.checksum!r}")

    @property
    def file(self) -> str:
        """Name of the downloaded file."""
        return self.name or (self.urls[0].rpartition("/")[2] if self.urls else "")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A published data set."""

    title: str
    page: str
    """The publisher's page."""
    licence: str
    """Licence in one sentence."""
    archives: tuple[Archive, ...] = ()
    """Files to download; empty if everything is downloaded by hand."""
    manual: str = ""
    """Instructions for a download by hand, if it needs a login or a form, or fails."""

    def __post_init__(self) -> None:
        if not self.archives and not self.manual:
            raise ValueError(f"{self.title}: a source needs archives, or words on how to fetch it by hand")


def fetch(source: Source, root: Path) -> None:
    """Downloads and unpacks a data set below `root`.

    Existing outputs are left unchanged, and archives that are already in `root`/downloads are not downloaded
    again. They may be deleted once unpacked.

    Args:
        source: the data set.
        root: folder of all data sets.

    Raises:
        DownloadError: a file cannot be downloaded, has a wrong checksum, or must be downloaded by hand; the message
            says how.
        ArchiveError: an archive is damaged or unsafe.
        OutputError: an output cannot be written.
    """
    downloads = root / "downloads"
    say(f"{source.title}: {source.page}\n{source.licence}")
    if not source.archives:
        raise DownloadError(f"{source.title} is fetched by hand from {source.page}: {source.manual}")
    for archive in source.archives:
        out = root / archive.out
        if os.path.lexists(out):
            say(f"{out} is there already; remove it to have it made again")
            continue
        path = downloads / archive.file
        with explained(path):
            downloads.mkdir(parents=True, exist_ok=True)
        try:
            with alone(path):
                bring(archive, path, out)
        except DownloadError as error:
            raise DownloadError(f"{error}\n{by_hand(source, path)}") from error


def bring(archive: Archive, path: Path, out: Path) -> None:
    """Makes `out` from the archive `path`, which is downloaded if missing.

    A bad download is deleted; a file that was there before is kept. A checksum is recorded only once `out` is made, so
    that it never confirms a broken download.
    """
    record = path.with_name(f"{path.name}.sha256")
    known = archive.checksum or recorded(record)
    says = "the publisher states" if archive.checksum else f"the first download had, see {record}"
    if path.is_dir():
        raise DownloadError(f"{path}: expected a file, got a folder; move it away")
    if path.exists():
        require(path, known, says, f"{path}: ", "remove the file to download it again")
        put(path, out)
    elif archive.urls:
        download_any(archive, path, out, known, says)
    else:
        raise DownloadError(f"{path}: no such file, and no address to download it from")
    if known is None:
        first = checksum(path, "sha256")
        write_text(record, f"{first.removeprefix('sha256:')}  {path.name}\n")
        say(f"no checksum is published for {path.name}; recorded in {record}, for later downloads to match: {first}")


def download_any(archive: Archive, path: Path, out: Path, known: str | None, says: str) -> None:
    """Makes `out` from the first URL of the archive that works."""
    kept = path.with_name(f"{path.name}.unfinished")  # not .part, which browsers use
    faults: list[ArchiveError | DownloadError] = []
    for url in archive.urls:
        try:
            download(url, kept)
            try:
                require(kept, known, says, f"{url}: ", "nothing was kept of it")
            except DownloadError:
                kept.unlink()
                raise
            if os.path.lexists(path):
                raise DownloadError(
                    f"{path}: another process has written this file meanwhile; run this again to use it"
                )
            kept.replace(path)
            try:
                put(path, out)
            except (ArchiveError, DownloadError):
                path.unlink()
                raise
        except (ArchiveError, DownloadError) as error:
            faults.append(error)
        else:
            return
    raise faults[0] if len(faults) == 1 else DownloadError("\n".join(map(str, faults)))


def require(path: Path, known: str | None, says: str, what: str, remedy: str) -> None:
    """Raises DownloadError if a checksum is known and the file has another."""
    if known is not None and (found := checksum(path, known.partition(":")[0])) != known:
        raise DownloadError(f"{what}not the checksum that {says}: expected {known}, but got {found}; {remedy}")


def put(path: Path, out: Path) -> None:
    """Makes `out` from a file: unpacks an archive, copies any other file."""
    if is_archive(path):
        unpack(path, out)
    else:
        refuse_page(path)
        with output_file(out) as partial:
            shutil.copyfile(path, partial)


def refuse_page(path: Path) -> None:
    """Raises DownloadError if the file is a web page instead, such as a login form."""
    with path.open("rb") as file:
        beginning = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if beginning.startswith((b"<!doctype html", b"<html")) and path.suffix not in (".html", ".htm"):
        raise DownloadError(f"{path}: expected {path.name}, got a web page: the site may ask for a login")


def checksum(path: Path, algorithm: str) -> str:
    """Checksum of a file in the form of `Archive.checksum`."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    except OSError as error:
        raise DownloadError(f"{path}: cannot be read ({error.strerror}); move it away") from error
    return f"{algorithm}:{digest.hexdigest()}"


def recorded(record: Path) -> str | None:
    """The checksum recorded after the first download, None if there is no record.

    Raises:
        DownloadError: the record cannot be read or has other content.
    """
    try:
        text = record.read_bytes()[:1000].decode("ascii", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DownloadError(f"{record}: cannot be read ({error.strerror}); remove it to record a new one") from error
    words = text.split()
    if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0]):
        raise DownloadError(f"{record}: expected a SHA-256 checksum and a name; remove it to record a new one")
    return f"sha256:{words[0]}"


def by_hand(source: Source, path: Path) -> str:
    """Instructions for a download by hand."""
    manual = source.manual or "Download it in a browser."
    return f"{manual} The page is {source.page}; put the file at {path} and run this again."


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Locks the file against other processes."""
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        with explained(path):
            lock.acquire()
    except Timeout:
        raise DownloadError(f"{path}: another process is downloading it; wait for that one") from None
    try:
        yield
    finally:
        lock.release()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
