"""Reads zip archives strictly: the file is the members that its list names, one behind the other, and no more."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

from deq_core.experiment.download.read_tar import Member

LOCAL = b"PK\3\4"
"""What a zip archive, and each of its members, begins with."""
END = b"PK\5\6"
ENCRYPTED, TRAILING, UTF8 = 1, 8, 0x800  # flags: content, checksum and sizes behind the content, name
DESCRIPTOR = 24  # bytes that may lie behind a member, at most
UNSAID = (0xFFFF, 0xFFFFFFFF)  # numbers that stand elsewhere because they are larger


def members(file: BinaryIO, take: Callable[[int], None]) -> Iterator[Member]:
    """The members of a zip archive.

    `zipfile` looks for the list of members at the end of a file, and takes for an archive whatever has one there.

    Args:
        take: told how many bytes the members have, before the first is given.

    Raises:
        ValueError, EOFError, zipfile.BadZipFile, zlib.error, struct.error and others: it is damaged.
    """
    with zipfile.ZipFile(file) as source:
        listed = source.infolist()
        check_end(file, source.comment, len(listed))
        check_places(file, listed, source.start_dir)
        take(sum(member.file_size for member in listed))
        for member in listed:
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was not made on Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                fault = "is a link or device"
            elif member.flag_bits & ENCRYPTED:
                fault = "is encrypted"
            elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                fault = f"is compressed by method {member.compress_type} (stored or deflated are taken)"
            elif member.is_dir() and member.file_size:
                fault = "is a folder with content"
            else:
                fault = ""
            data = None if member.is_dir() else io.BytesIO() if fault else source.open(member)
            yield Member(member.orig_filename, member.file_size, data, fault)


def check_end(file: BinaryIO, comment: bytes, count: int) -> None:
    """Raises where bytes follow the archive, or it has another number of members than it says."""
    length = struct.calcsize("<4s4H2LH") + len(comment)
    file.seek(max(0, file.seek(0, io.SEEK_END) - length))
    mark, _, _, _, members, _, _, said = struct.unpack("<4s4H2LH", file.read(length - len(comment)))
    if mark != END or said != len(comment):
        raise ValueError("more follows behind its end, or its end is missing")
    if members not in (count, *UNSAID):
        raise ValueError(f"it says that it has {members} members, and lists {count}")


def check_places(file: BinaryIO, listed: list[zipfile.ZipInfo], end: int) -> None:
    """Raises where a member's own header is not as listed, or bytes of the archive belong to no member or to two."""
    place = 0
    for member in sorted(listed, key=lambda member: member.header_offset):
        if not 0 <= member.header_offset - place <= (DESCRIPTOR if place else 0):
            raise ValueError(
                f"{member.orig_filename!r} begins at byte {member.header_offset}, the one before it ends "
                f"at byte {place}"
            )
        file.seek(member.header_offset)
        mark, _, flags, method, _, _, *numbers, name, extra = struct.unpack("<4s5H3L2H", file.read(30))
        encoding = "utf-8" if member.flag_bits & UTF8 else "cp437"
        same = (mark, flags, method, file.read(name)) == (
            LOCAL,
            member.flag_bits,
            member.compress_type,
            member.orig_filename.encode(encoding),
        )
        expected = (member.CRC, member.compress_size, member.file_size)
        if not flags & TRAILING:
            same = same and all(a == b or a in UNSAID for a, b in zip(numbers, expected, strict=True))
        if not same:
            raise ValueError(f"{member.orig_filename!r} is listed otherwise than it stands in the archive")
        place = member.header_offset + 30 + name + extra + member.compress_size
    if not 0 <= end - place <= DESCRIPTOR:
        raise ValueError(f"its members end at byte {place}, and their list begins at byte {end}")
