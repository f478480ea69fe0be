"""Reads zip archives strictly: a file starts with its first member and ends with the list of members."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

from deq_core.experiment.download.read_tar import Member

LOCAL = b"PK\3\4"
"""Magic bytes of a zip archive and of each member."""
END = b"PK\5\6"
ENCRYPTED, TRAILING, UTF8 = 1, 8, 0x800  # flags: encrypted content, sizes after the content, UTF-8 name
UNSAID = (0xFFFF, 0xFFFFFFFF)  # markers of larger numbers, which are in zip64 fields


def members(file: BinaryIO, take: Callable[[int], None]) -> Iterator[Member]:
    """The members of a zip archive.

    `zipfile` accepts any file that ends with a list of members.

    Args:
        file: the archive.
        take: called with the total size of the members in bytes, before the first one is yielded.

    Raises:
        ValueError, EOFError, zipfile.BadZipFile, zlib.error, struct.error and others: damage.
    """
    with zipfile.ZipFile(file) as source:
        listed = source.infolist()
        check_end(file, source.comment, len(listed))
        if min((member.header_offset for member in listed), default=0):
            raise ValueError("there are bytes before its first member")
        take(sum(member.file_size for member in listed))
        for member in listed:
            check_header(file, member)
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if the archive was not made on Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                fault = "is a link or device"
            elif member.flag_bits & ENCRYPTED:
                fault = "is encrypted"
            elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                fault = f"is compressed by method {member.compress_type} (only stored and deflated are supported)"
            elif member.is_dir() and member.file_size:
                fault = "is a folder with content"
            else:
                fault = ""
            data = None if member.is_dir() else io.BytesIO() if fault else source.open(member)
            yield Member(member.orig_filename, member.file_size, data, fault)


def check_end(file: BinaryIO, comment: bytes, count: int) -> None:
    """Raises ValueError if bytes follow the archive, or the number of members is wrong."""
    length = struct.calcsize("<4s4H2LH") + len(comment)
    file.seek(max(0, file.seek(0, io.SEEK_END) - length))
    mark, _, _, _, members, _, _, said = struct.unpack("<4s4H2LH", file.read(length - len(comment)))
    if mark != END or said != len(comment):
        raise ValueError("data follows after its end, or its end is missing")
    if members not in (count, *UNSAID):
        raise ValueError(f"it announces {members} members, but lists {count}")


def check_header(file: BinaryIO, member: zipfile.ZipInfo) -> None:
    """Raises ValueError if a member's own header differs from the list."""
    file.seek(member.header_offset)
    _, _, flags, _, _, _, *numbers, length, _ = struct.unpack("<4s5H3L2H", file.read(30))
    name = file.read(length).decode("utf-8" if member.flag_bits & UTF8 else "cp437")
    expected = (member.CRC, member.compress_size, member.file_size)
    same = flags & TRAILING or all(a == b or a in UNSAID for a, b in zip(numbers, expected, strict=True))
    if (name, flags) != (member.orig_filename, member.flag_bits) or not same:
        raise ValueError(f"{member.orig_filename!r} differs between the archive's list and its data")
