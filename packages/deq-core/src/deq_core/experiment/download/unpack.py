"""Unpacks untrusted archives: nothing outside the folder, no links, no devices, all or nothing."""

import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm import tqdm

from deq_core.experiment.download import read_tar, read_zip
from deq_core.experiment.download.read_tar import Member
from deq_core.experiment.errors import UserError
from deq_core.experiment.files import OutputError, output_directory

SUFFIXES = {
    ".zip": "zip",
    ".tar": "tar",
    ".tar.gz": "gzip",
    ".tgz": "gzip",
    ".tar.bz2": "bzip2",
    ".tar.xz": "xz",
}
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(ArithmeticError, EOFError, LookupError, MemoryError, RuntimeError, ValueError),
)
"""Exceptions that the libraries raise for damaged archives."""
RATIO, FREELY = 250, 1 << 26
"""An archive may unpack to `RATIO` times its size, and to `FREELY` bytes in any case."""


class ArchiveError(UserError, ValueError):
    """An archive is damaged, has an unknown format, or has members that must not be unpacked."""


def unpack(archive: Path, out: Path) -> None:
    """Unpacks a zip or tar archive (compressed or not) to the folder `out`, atomically.

    The archive is read to its end, and its headers, sizes, checksums and end are verified. (An uncompressed tar has no
    checksums of its content.) A top-level folder in the archive with the name of `out` becomes `out`. Owners, modes and
    times are not kept.

    Raises:
        ArchiveError: the archive is damaged, or a member is neither file nor folder, lies outside, or is repeated.
        OutputError: `out` cannot be written.
    """
    with opened(archive) as file:
        kind = kind_of(archive, file)
        with output_directory(out, replaceable=False) as partial:
            room = Room(archive, partial, out)
            members = read_zip.members(file, room.take) if kind == "zip" else read_tar.members(file, kind, room.take)
            try:
                write(archive, file, members, partial, top=out.name)
            except (ArchiveError, OutputError):
                raise
            except DAMAGE as error:
                raise damaged(archive, error) from error
            except OSError as error:
                if error.errno is not None:
                    raise
                raise damaged(archive, error) from error  # bzip2's error for damaged data


def is_archive(path: Path) -> bool:
    """Whether a file has the name of an archive that `unpack` supports."""
    return named(path) is not None


def opened(archive: Path) -> BinaryIO:
    try:
        return archive.open("rb")
    except OSError as error:
        raise ArchiveError(f"{archive}: expected an archive, but it cannot be read: {error.strerror}") from error


def kind_of(archive: Path, file: BinaryIO) -> str:
    """Format of an archive by its first bytes: "zip", "tar", or a tar compressed with "gzip", "bzip2" or "xz".

    Raises:
        ArchiveError: the format is unknown (usually a web page saved under the name of an archive), or differs from
            that of the file's name.
    """
    start = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    kind = "zip" if start.startswith(read_zip.LOCAL) else read_tar.kind_of(start)
    if kind is None:
        raise ArchiveError(f"{archive}: expected a complete zip or tar archive, got a file that begins {start[:40]!r}")
    if named(archive) not in (None, kind):
        raise ArchiveError(f"{archive}: expected {named(archive)} data, as its name says, got {kind} data")
    return kind


def named(archive: Path) -> str | None:
    """Format of an archive by its name, None if the name does not tell."""
    return next((kind for suffix, kind in SUFFIXES.items() if archive.name.lower().endswith(suffix)), None)


def write(archive: Path, file: BinaryIO, members: Iterable[Member], folder: Path, *, top: str) -> None:
    """Writes members to `folder`, without the folder `top` at the start of their paths."""
    size = archive.stat().st_size
    with tqdm(total=size, unit="B", unit_scale=True, desc=f"unpacking {archive.name}", disable=None) as bar:
        for member in members:
            path = inside(archive, member.name)
            if member.fault:
                raise refused(archive, member.name, member.fault)
            if path.parts[:1] == (top,) and (len(path.parts) > 1 or member.data is None):
                path = PurePosixPath(*path.parts[1:])
            target = folder / path
            try:
                (target if member.data is None else target.parent).mkdir(parents=True, exist_ok=True)
                if member.data is None:
                    continue
                with target.open("xb") as written:
                    shutil.copyfileobj(member.data, written, read_tar.CHUNK)
                    if written.tell() != member.size:
                        raise EOFError(f"{member.name!r} is {written.tell()} bytes long, and should be {member.size}")
            except (FileExistsError, NotADirectoryError):
                raise refused(archive, member.name, "comes twice") from None
            bar.update(max(0, file.tell() - bar.n))
    if not any(folder.iterdir()):
        raise EOFError("it holds nothing")


def inside(archive: Path, name: str) -> PurePosixPath:
    """Path of a member relative to the output folder.

    Raises:
        ArchiveError: the path leaves the folder, or has characters that are special on some systems.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(character in name for character in "\\:\0"):
        raise refused(archive, name, "lies outside of the archive's folder")
    return path


class Room:
    """Limit on the unpacked size of an archive: free disk space, and a multiple of its own size."""

    def __init__(self, archive: Path, folder: Path, out: Path) -> None:
        self.archive, self.out = archive, out
        self.most = max(FREELY, RATIO * archive.stat().st_size)
        self.free = shutil.disk_usage(folder).free

    def take(self, size: int) -> None:
        """Raises ArchiveError or OutputError if a total of `size` bytes is too much."""
        if size > self.most:
            raise ArchiveError(
                f"{self.archive}: unpacks to more than {self.most} bytes, far too many for its size; nothing was "
                "unpacked. Do not trust it"
            )
        if size > self.free:
            raise OutputError(
                f"cannot write {self.out}: {self.archive.name} unpacks to more than the {self.free} bytes that are "
                "free on the disk: free space there or choose another folder"
            )


def damaged(archive: Path, error: Exception) -> ArchiveError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return ArchiveError(f"{archive}: the archive is damaged: {reason}; remove it and download it again")


def refused(archive: Path, member: str, why: str) -> ArchiveError:
    return ArchiveError(f"{archive}: the member {member!r} {why}, so nothing was unpacked. Do not trust it")
