"""Fetches published data: downloads, checks, unpacks.

A checksum that the publisher states is checked. Where none is stated, that of the first archive that unpacked is
written beside it, and later downloads must match it: this trusts the first download, and shows a change from then on.
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
    """One file to download, and what becomes of it."""

    out: str
    """Where it goes below the folder of the data: the folder it is unpacked as, or for other files than archives its
    place. A folder at the top of the archive that has this folder's name is this folder."""
    urls: tuple[str, ...] = ()
    """Where it is published, mirrors after the first. Empty where people must fetch it themselves."""
    name: str = ""
    """Of the file; that of the first URL if empty."""
    checksum: str | None = None
    """As the publisher states it: "sha256:..." or "md5:..."; None where none is stated."""

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
        """The name of the file."""
        return self.name or (self.urls[0].rpartition("/")[2] if self.urls else "")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A published data set."""

    title: str
    page: str
    """The publisher's page."""
    licence: str
    """What the publisher allows, in a sentence."""
    archives: tuple[Archive, ...] = ()
    """Empty where everything is to be done by hand."""
    manual: str = ""
    """What to do by hand where a download needs a login or a form, or fails."""

    def __post_init__(self) -> None:
        if not self.archives and not self.manual:
            raise ValueError(f"{self.title}: a source needs archives, or words on how to fetch it by hand")


def fetch(source: Source, root: Path, *, downloads: Path | None = None, tries: int = 5, pause: float = 1.0) -> None:
    """Puts a data set below `root`. What is there already stays as it is; an archive in `downloads` is not fetched.

    Args:
        source: what to fetch.
        root: folder of the data sets.
        downloads: where archives are kept, `root`/downloads if None. They may be removed once unpacked.
        tries: attempts in a row without a new byte before a download is given up, see `download`.
        pause: seconds before the second attempt; doubled at each further one.

    Raises:
        DownloadError: a file cannot be downloaded, has another checksum, or is to be fetched by hand: how is said.
        ArchiveError: an archive is damaged or not to be trusted.
        OutputError: something cannot be written.
    """
    downloads = root / "downloads" if downloads is None else downloads
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
                bring(archive, path, out, tries=tries, pause=pause)
        except DownloadError as error:
            raise DownloadError(f"{error}\n{by_hand(source, path)}") from error


def bring(archive: Archive, path: Path, out: Path, *, tries: int, pause: float) -> None:
    """Makes `out` of the archive `path`, which is downloaded if it is not there.

    What was downloaded and is no good is removed again, what was there before stays. A checksum is recorded once `out`
    is made, so that it never vouches for a broken download.
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
        download_any(archive, path, out, known, says, tries=tries, pause=pause)
    else:
        raise DownloadError(f"{path}: no such file, and no address to download it from")
    if known is None:
        first = checksum(path, "sha256")
        write_text(record, f"{first.removeprefix('sha256:')}  {path.name}\n")
        say(f"no checksum is published for {path.name}; recorded in {record}, for later downloads to match: {first}")


def download_any(
    archive: Archive, path: Path, out: Path, known: str | None, says: str, *, tries: int, pause: float
) -> None:
    """Makes `out` of what the first of the archive's URLs that works gives."""
    kept = path.with_name(f"{path.name}.unfinished")  # .part is what a browser calls its own
    faults: list[ArchiveError | DownloadError] = []
    for url in archive.urls:
        try:
            download(url, kept, tries=tries, pause=pause)
            try:
                require(kept, known, says, f"{url}: ", "nothing was kept of it")
            except DownloadError:
                kept.unlink()
                raise
            if os.path.lexists(path):
                raise DownloadError(f"{path}: a file has come there meanwhile; run this again to take that one")
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
    """Raises DownloadError where a file has another checksum than the one that is known."""
    if known is not None and (found := checksum(path, known.partition(":")[0])) != known:
        raise DownloadError(f"{what}not the checksum that {says}: expected {known}, but got {found}; {remedy}")


def put(path: Path, out: Path) -> None:
    """Makes `out` of a file: what an archive holds, or a copy."""
    if is_archive(path):
        unpack(path, out)
    else:
        refuse_page(path)
        with output_file(out) as partial:
            shutil.copyfile(path, partial)


def refuse_page(path: Path) -> None:
    """Raises DownloadError where a file is a page of a web site, such as one that asks for a login."""
    with path.open("rb") as file:
        beginning = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if beginning.startswith((b"<!doctype html", b"<html")) and path.suffix not in (".html", ".htm"):
        raise DownloadError(f"{path}: expected {path.name}, got a web page: the site may ask for a login")


def checksum(path: Path, algorithm: str) -> str:
    """Of a file, as an `Archive` has it."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    except OSError as error:
        raise DownloadError(f"{path}: cannot be read ({error.strerror}); move it away") from error
    return f"{algorithm}:{digest.hexdigest()}"


def recorded(record: Path) -> str | None:
    """The checksum written when the first download was unpacked, None if there was none.

    Raises:
        DownloadError: the file holds something else.
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
    """What to do where a download does not work."""
    manual = source.manual or "Download it in a browser."
    return f"{manual} The page is {source.page}; put the file at {path} and run this again."


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keeps other processes from writing the same file."""
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
