"""Unpacks archives that others made: nothing outside the folder, no links, no devices, all of it or nothing."""

import lzma
import secrets
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from deq_core.experiment.files import OutputError, output_directory

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


class ArchiveError(ValueError):
    """An archive that is damaged, of an unknown kind, or holds what must not be unpacked."""


def unpack(archive: Path, out: Path) -> None:
    """Unpacks a zip or tar archive (compressed or not) as the folder `out`, which appears whole or not at all.

    A folder at the top of the archive that has the name of `out` is `out` itself. Owners, modes and times of the
    archive are not kept.

    Raises:
        ArchiveError: the archive is damaged, or has a member that is no file or folder or lies outside.
        OutputError: `out` cannot be written.
    """
    check_archive(archive)
    with output_directory(out) as partial:
        try:
            if zipfile.is_zipfile(archive):
                unpack_zip(archive, partial)
            else:
                unpack_tar(archive, partial)
        except DAMAGE as error:
            raise damaged(archive, error) from error
        except OSError as error:
            if error.errno is not None or isinstance(error, OutputError):
                raise
            raise damaged(archive, error) from error  # so say the decompressors of gzip and bzip2
        lift(partial, out.name)


def check_archive(path: Path) -> None:
    """Checks that a file begins (tar) or ends (zip) as archives do.

    Raises:
        ArchiveError: it does not; a page of a web site, saved under the name of an archive, is the usual reason.
    """
    if not zipfile.is_zipfile(path) and not tarfile.is_tarfile(path):
        with path.open("rb") as file:
            start = file.read(40)
        raise ArchiveError(f"{path}: expected a complete zip or tar archive, got a file that begins {start!r}")


def unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        members = source.infolist()
        total = sum(member.file_size for member in members)
        with tqdm(total=total, unit="B", unit_scale=True, desc=f"unpacking {archive.name}", disable=None) as bar:
            for member in members:
                kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was not made on Unix
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise refused(archive, member.filename, "is a link or device")
                if member.flag_bits & 1:
                    raise refused(archive, member.filename, "is encrypted")
                target = inside(archive, member.filename, folder)
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    with source.open(member) as data:
                        copy(archive, data, target)
                bar.update(member.file_size)


def unpack_tar(archive: Path, folder: Path) -> None:
    bar = tqdm(total=archive.stat().st_size, unit="B", unit_scale=True, desc=f"unpacking {archive.name}", disable=None)
    with bar, archive.open("rb") as file, tarfile.open(fileobj=file, mode="r:*") as source:
        for member in source:
            target = inside(archive, member.name, folder)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isfile() and (data := source.extractfile(member)) is not None:
                copy(archive, data, target)
            else:
                raise refused(archive, member.name, "is a link or device")
            bar.update(file.tell() - bar.n)


def inside(archive: Path, name: str, folder: Path) -> Path:
    """Where a member goes.

    Raises:
        ArchiveError: outside of `folder`, or to a name that some systems take for another one.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(character in name for character in "\\:\0"):
        raise refused(archive, name, "lies outside of the archive's folder")
    return folder / path


def copy(archive: Path, data: IO[bytes], target: Path) -> None:
    if target.exists():
        raise refused(archive, target.name, "comes twice")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        shutil.copyfileobj(data, file, 1 << 20)


def damaged(archive: Path, error: Exception) -> ArchiveError:
    return ArchiveError(f"{archive}: the archive is damaged: {error}; download it again")


def refused(archive: Path, member: str, why: str) -> ArchiveError:
    return ArchiveError(f"{archive}: the member {member!r} {why}, which is not unpacked; nothing was. Do not trust it")


def lift(folder: Path, name: str) -> None:
    """Moves what `folder`/`name` holds up into `folder`, if there is such a folder."""
    if not (folder / name).is_dir():
        return
    inner = (folder / name).rename(folder / f".{secrets.token_hex(4)}")
    for path in inner.iterdir():
        if (folder / path.name).exists():
            raise ArchiveError(f"{name}/{path.name} and {path.name} of the archive would be one file")
        path.rename(folder / path.name)
    inner.rmdir()
