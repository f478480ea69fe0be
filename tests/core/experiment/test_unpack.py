"""Archives: what is unpacked, what is refused, and that a refusal leaves nothing."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.core.experiment.test_files import file_size_limit

from deq_core.experiment.files import OutputError
from deq_core.experiment.unpack import ArchiveError, unpack

FILES = {"read.me": b"one", "training/flow/1.flo": b"two" * 1000, "training/2.png": b""}


def make_zip(path: Path, files: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
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


def test_archives_compressed_in_parallel_are_unpacked(tmp_path: Path) -> None:
    """pbzip2 writes several compressed streams one after the other."""
    import bz2

    plain = make_tar(tmp_path / "a.tar", FILES).read_bytes()
    pieces = [bz2.compress(plain[start : start + 2000]) for start in range(0, len(plain), 2000)]
    (tmp_path / "a.tar.bz2").write_bytes(b"".join(pieces))
    unpack(tmp_path / "a.tar.bz2", tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


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


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile, when the archive is made
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_file_that_comes_twice_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("file", "one")
            archive.writestr("file", "two")
    else:
        special_tar(path, tarfile.REGTYPE, name="read.me")
    with pytest.raises(ArchiveError, match="comes twice"):
        unpack(path, tmp_path / "out")


def test_programs_do_not_stay_executable(tmp_path: Path) -> None:
    unpack(make_zip(tmp_path / "a.zip", {"run": b"x"}, stat.S_IFREG | 0o4777), tmp_path / "out")
    assert not (tmp_path / "out/run").stat().st_mode & 0o7111


@pytest.mark.parametrize(("make", "suffix"), KINDS)
def test_a_truncated_archive_is_refused_and_the_folder_before_it_stays(
    make: Callable[..., Path], suffix: str, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("")
    path = make(tmp_path / f"a{suffix}", {"file": bytes(range(256)) * 100})
    path.write_bytes(path.read_bytes()[: 3 * path.stat().st_size // 5 if suffix != ".tar" else 10_000])
    with pytest.raises(ArchiveError, match=r"damaged.*download it again|expected a complete zip or tar"):
        unpack(path, tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_flipped_bit_in_a_zip_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("file", bytes(1000))
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="damaged: Bad CRC-32"):
        unpack(path, tmp_path / "out")


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
