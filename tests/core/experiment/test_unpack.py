"""Archives: what is unpacked, what is refused, and that a refusal leaves nothing."""

import bz2
import gzip
import io
import itertools
import lzma
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.core.experiment.test_files import file_size_limit

from deq_core.experiment.download.unpack import ArchiveError, unpack
from deq_core.experiment.files import OutputError

FILES = {"read.me": b"one", "training/flow/1.flo": b"two" * 1000, "training/2.png": b""}


def make_zip(path: Path, files: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    compression = path.suffix.lstrip(".") if path.suffix in (".gz", ".bz2", ".xz") else ""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as archive:  # pyright: ignore[reportCallIssue, reportArgumentType] - a mode put together
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path.write_bytes(data.getvalue())
    return path


def special_tar(path: Path, kind: bytes, name: str = "special", target: str = "read.me") -> Path:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("read.me")
        archive.addfile(info, io.BytesIO())
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MAKERS = [make_zip, make_tar]
KINDS = [(make_zip, ".zip"), *((make_tar, suffix) for suffix in (".tar", ".tar.gz", ".tar.bz2", ".tar.xz"))]


@pytest.mark.parametrize(("make", "suffix"), KINDS)
def test_every_kind_of_archive_is_unpacked(make: Callable[..., Path], suffix: str, tmp_path: Path) -> None:
    unpack(make(tmp_path / f"a{suffix}", FILES), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{suffix}", "out"]


@pytest.mark.parametrize("make", MAKERS)
def test_a_top_folder_of_the_name_of_the_place_is_the_place(make: Callable[..., Path], tmp_path: Path) -> None:
    files = {f"out/{name}": content for name, content in FILES.items()} | {"out/out": b"inner", "LICENCE": b"free"}
    unpack(make(tmp_path / "a", files), tmp_path / "out")
    assert contents(tmp_path / "out") == {**FILES, "out": b"inner", "LICENCE": b"free"}
    unpack(tmp_path / "a", tmp_path / "other")
    assert "out/training/2.png" in contents(tmp_path / "other")


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "..", "a\\..\\evil", "C:evil"])
def test_members_outside_are_refused_and_nothing_is_left(make: Callable[..., Path], name: str, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    archive = make(folder / "a", {"good": b"x", name: b"x"})
    with pytest.raises(ArchiveError, match=r"a: the member .* lies outside of the archive's folder.*nothing was"):
        unpack(archive, folder / "out")
    assert contents(tmp_path) == {"inner/a": archive.read_bytes()}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="'special' is a link or device"):
        unpack(special_tar(tmp_path / "a.tar", kind), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_of_a_zip_are_refused(kind: int, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="'special' is a link or device"):
        unpack(make_zip(tmp_path / "a.zip", {"special": b"/etc/passwd"}, kind | 0o777), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_programs_do_not_stay_executable(tmp_path: Path) -> None:
    unpack(make_zip(tmp_path / "a.zip", {"run": b"x"}, stat.S_IFREG | 0o4777), tmp_path / "out")
    assert not (tmp_path / "out/run").stat().st_mode & 0o7111


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"file": b"x"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("")
    with pytest.raises(OutputError, match="it holds mine, which this program did not write"):
        unpack(path, tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["mine"]


SMALL = {"a/1.txt": b"alpha" * 30, "a/ä.bin": bytes(range(256)), "empty": b"", "z": b"B" * 700}


def outcome(data: bytes | bytearray, suffix: str, folder: Path) -> str:
    """What becomes of an archive of SMALL with this content: "refused" or "right", and then removed again."""
    (folder / f"a{suffix}").write_bytes(data)
    try:
        unpack(folder / f"a{suffix}", folder / "out")
    except ArchiveError:
        assert not (folder / "out").exists()
        return "refused"
    assert contents(folder / "out") == SMALL
    for place in sorted((folder / "out").rglob("*"), reverse=True):
        place.rmdir() if place.is_dir() else place.unlink()
    (folder / "out").rmdir()
    return "right"


@pytest.mark.parametrize(("make", "suffix"), KINDS)
def test_an_archive_that_is_cut_doubled_or_followed_by_more_is_refused(
    make: Callable[..., Path], suffix: str, tmp_path: Path
) -> None:
    data = make(tmp_path / f"a{suffix}", SMALL).read_bytes()
    assert outcome(data, suffix, tmp_path) == "right"
    zeros = len(data) - len(data.rstrip(b"\0")) if suffix == ".tar" else 0  # all but the first thousand are padding
    for cut in range(0, len(data) - max(0, zeros - 1024), len(data) // 40):
        assert outcome(data[:cut], suffix, tmp_path) == "refused", cut
    for other in (data + data, data + b"x", data + data[: len(data) // 2], b"x" + data, data[1:]):
        assert outcome(other, suffix, tmp_path) == "refused"


@pytest.mark.parametrize(("make", "suffix"), KINDS)
def test_a_flipped_bit_is_found_or_does_not_matter(make: Callable[..., Path], suffix: str, tmp_path: Path) -> None:
    data = make(tmp_path / f"a{suffix}", SMALL).read_bytes()
    if suffix == ".tar":  # nothing but headers has a checksum there
        with tarfile.open(fileobj=io.BytesIO(data)) as source:
            headers = [range(member.offset_data - 512, member.offset_data, 17) for member in source]
        end = len(data.rstrip(b"\0")) // 512 * 512 + 512
        places = [*itertools.chain(*headers), *range(end, len(data), 401)]
    else:
        places = range(0, len(data), 5)
    found = []
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        found.append(outcome(flipped, suffix, tmp_path))
    assert found.count("refused") > len(found) / 2


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_archive_of_several_streams_is_whole_or_refused(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    suffix = {gzip.compress: ".tar.gz", bz2.compress: ".tar.bz2", lzma.compress: ".tar.xz"}[pack]
    plain = make_tar(tmp_path / "a.tar", SMALL).read_bytes()
    first, second, third = pack(plain[:2500]), pack(plain[2500:4000]), pack(plain[4000:])
    assert outcome(first + second + third, suffix, tmp_path) == "right"
    assert outcome(first + bytes(512) + second + third + bytes(10), suffix, tmp_path) == "right"
    for damaged in (first + b"x" + second[1:] + third, first + second, first + third, first + second + third[:-1]):
        assert outcome(damaged, suffix, tmp_path) == "refused"
    assert outcome(first + second + third + b"more", suffix, tmp_path) == "refused"


def test_a_tar_ends_in_two_blocks_of_zeros(tmp_path: Path) -> None:
    data = make_tar(tmp_path / "a.tar", SMALL).read_bytes().rstrip(b"\0")
    data += bytes(-len(data) % 512)
    assert outcome(data + bytes(1024), ".tar", tmp_path) == "right"
    for end in (b"", bytes(512), bytes(512) + data[:512] + bytes(1024), b"x" * 512 + bytes(1024)):
        assert outcome(data + end, ".tar", tmp_path) == "refused"


def test_a_tar_whose_last_member_is_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip", {"inner.txt": b"inner"}).read_bytes()
    files = {"data/a.txt": b"x" * 1000, "data/devkit.zip": inner}
    unpack(make_tar(tmp_path / "set.tar", files), tmp_path / "set")
    assert contents(tmp_path / "set") == files


@pytest.mark.parametrize(("make", "suffix"), KINDS)
def test_an_archive_is_what_its_name_says(make: Callable[..., Path], suffix: str, tmp_path: Path) -> None:
    data = make(tmp_path / f"a{suffix}", SMALL).read_bytes()
    for _, other in KINDS:
        if other != suffix:
            (tmp_path / f"b{other}").write_bytes(data)
            with pytest.raises(ArchiveError, match=r"expected .* data, as its name says, got .* data"):
                unpack(tmp_path / f"b{other}", tmp_path / "out")
    (tmp_path / f"c{suffix.upper()}").write_bytes(data)
    unpack(tmp_path / f"c{suffix.upper()}", tmp_path / "out")


@pytest.mark.parametrize(
    "content",
    [b"", bytes(10240), b"PK\5\6" + bytes(18), gzip.compress(bytes(10240), mtime=0)],
    ids=["empty", "tar", "zip", "tar.gz"],
)
def test_an_archive_of_nothing_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"expected a complete zip or tar archive|it holds nothing"):
        unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("place", ["nowhere.zip", "folder.zip"])
def test_an_archive_that_cannot_be_read_is_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(ArchiveError, match=f"{place}: expected an archive, but it cannot be read"):
        unpack(tmp_path / place, tmp_path / "out")


def relisted(data: bytes, change: Callable[[bytearray], object]) -> bytes:
    """A zip archive whose list of members is changed."""
    start = data.index(b"PK\1\2")
    listed = bytearray(data[start:])
    change(listed)
    return data[:start] + bytes(listed)


def forget_the_first(listed: bytearray) -> None:
    """Removes the first member from a list of members, and all that tells of it."""
    end = listed.index(b"PK\1\2", 1)
    del listed[:end]
    end = listed.index(b"PK\5\6")
    count, size = struct.unpack_from("<2xHL", listed, end + 8)
    struct.pack_into("<2HL", listed, end + 8, count - 1, count - 1, end)
    assert size > end


@pytest.mark.parametrize(
    "change",
    [
        forget_the_first,
        lambda listed: listed.__setitem__(46, ord("b")),  # a name
        lambda listed: struct.pack_into("<H", listed, 8, 0x800),  # the flag for UTF-8
        lambda listed: listed.__setitem__(slice(16, 28), bytes(12)),  # checksum and sizes of the first
        lambda listed: struct.pack_into("<H", listed, listed.index(b"PK\5\6") + 10, 3),  # how many there are
    ],
)
def test_a_zip_that_says_two_things_of_its_members_is_refused(
    change: Callable[[bytearray], object], tmp_path: Path
) -> None:
    data = make_zip(tmp_path / "a.zip", SMALL).read_bytes()
    assert outcome(relisted(data, change), ".zip", tmp_path) == "refused"


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("names", [("a", "./a"), ("b/a", "b//a"), ("a", "a/b"), ("a/b", "a")])
def test_two_members_for_one_place_are_refused(
    make: Callable[..., Path], names: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ArchiveError, match=r"a: the member .* comes twice"):
        unpack(make(tmp_path / "a", dict.fromkeys(names, b"x")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_may_come_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("./", "b/a", "B/c", "b/", "./b/"):
            archive.writestr(name, b"" if name.endswith("/") else b"x")
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert contents(tmp_path / "out") == {"b/a": b"x", "B/c": b"x"}


@pytest.mark.parametrize(("make", "suffix"), [kind for kind in KINDS if kind[1] != ".tar"])
def test_a_small_archive_that_would_fill_the_disk_is_refused(
    make: Callable[..., Path], suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / f"a{suffix}", {"zeros": bytes(6_000_000)})
    monkeypatch.setattr("deq_core.experiment.download.unpack.FREELY", 1 << 20)
    monkeypatch.setattr("deq_core.experiment.download.unpack.RATIO", 20)
    with file_size_limit(1 << 21), pytest.raises(ArchiveError, match="far too many for its size"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("make", "suffix"), KINDS)
def test_an_archive_larger_than_the_free_disk_is_an_output_error(
    make: Callable[..., Path], suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / f"a{suffix}", {"file": bytes(1_000_000)})
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 900_000}))
    with pytest.raises(OutputError, match=r"cannot write .*out: a\..* unpacks to more than the 900000 bytes"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "blocks",
    [
        header("a", size=-512),
        header("a", size=1 << 60),
        header("a", tarfile.GNUTYPE_LONGNAME, 1 << 40),
        header("a", tarfile.GNUTYPE_LONGNAME, -512),
        header("a", tarfile.XHDTYPE, 512) + b"17 size=-1000000\n".ljust(512, b"\0") + header("a"),
        (header("a", tarfile.GNUTYPE_LONGNAME, 2) + b"b".ljust(512, b"\0")) * 2000,
        tarfile.TarInfo("a").tobuf(tarfile.PAX_FORMAT).replace(b"a", b"b", 1),
    ],
)
def test_headers_that_lie_are_damage(blocks: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(header("first") + blocks + bytes(1024))
    with pytest.raises(ArchiveError, match=r"a\.tar: the archive is damaged: .*; remove it and download it again"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sparse_files_are_refused(tmp_path: Path) -> None:
    pax = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n25 GNU.sparse.name=sparse\n32 GNU.sparse.realsize=900000000\n"
    blocks = header("x", tarfile.XHDTYPE, len(pax)) + pax.ljust(512, b"\0") + header("x", size=512)
    for content in (b"0\n".ljust(512, b"\0"), b"99999999\n".ljust(512, b"\0")):
        (tmp_path / "a.tar").write_bytes(blocks + content + bytes(1024))
        with pytest.raises(ArchiveError, match=r"is a sparse file|is damaged"):
            unpack(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_may_fill_all_memory_are_refused(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("zeros", bytes(1000))
    with pytest.raises(ArchiveError, match=r"'zeros' is compressed by method \d+"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_web_page_in_the_place_of_an_archive_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("<html>Please log in</html>")
    with pytest.raises(ArchiveError, match=r"a\.zip: expected a complete zip or tar archive, .* b'<html>Please log in"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("make", MAKERS)
def test_a_full_disk_is_an_output_error(make: Callable[..., Path], tmp_path: Path) -> None:
    path = make(tmp_path / "a", {"file": bytes(100_000)})
    with file_size_limit(50_000), pytest.raises(OutputError, match=r"cannot write .*out: .*size limit"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tar_whose_rest_was_never_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(header("first"))
    with path.open("r+b") as file:
        file.truncate(20_000_000)
    with pytest.raises(ArchiveError, match="zeros follow its end, so it may be incomplete"):
        unpack(path, tmp_path / "out")
