"""Fetching data sets: checksums published and recorded, mirrors, archives fetched by hand."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from tests.core.experiment.server import Web, saying, serving

from deq_core.experiment.download.fetch import Archive, Source, fetch
from deq_core.experiment.download.resume import DownloadError
from deq_core.experiment.download.unpack import ArchiveError
from deq_core.experiment.files import OutputError


def zipped(**files: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(f"Chairs/{name}"), content)  # of 1980, and so of the same bytes always
    return data.getvalue()


CONTENT = zipped(flow=b"a flow", noise=np.random.default_rng(0).bytes(100_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("deq_core.experiment.download.resume.PAUSE", 0.0)
    with serving() as web:
        web.files = {"chairs.zip": CONTENT, "split.txt": b"1\n2\n"}
        yield web


def source(web: Web, checksum: str | None = None, urls: tuple[str, ...] | None = None) -> Source:
    archive = Archive(
        out="Chairs",
        urls=(web.url("chairs.zip"),) if urls is None else urls,
        name="chairs.zip",
        checksum=checksum,
    )
    return Source(title="Chairs", page="http://chairs.test", licence="For research alone.", archives=(archive,))


def get(what: Source, root: Path) -> None:
    fetch(what, root)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_set_is_downloaded_and_unpacked(web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    get(source(web), tmp_path / "data")
    assert (tmp_path / "data/Chairs/flow").read_bytes() == b"a flow"
    said = capsys.readouterr().err
    assert "For research alone." in said
    assert "http://chairs.test" in said


def test_files_that_are_no_archives_are_put_in_their_place(web: Web, tmp_path: Path) -> None:
    split = Archive(out="Chairs/chairs_split.txt", urls=(web.url("split.txt"),))
    get(replace(source(web), archives=(split,)), tmp_path)
    assert (tmp_path / "Chairs/chairs_split.txt").read_text() == "1\n2\n"


def test_what_is_there_is_not_fetched_again(web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    get(source(web), tmp_path)
    (tmp_path / "downloads/chairs.zip").unlink()
    get(source(web), tmp_path)
    assert len(web.requests) == 1
    assert "Chairs is there already; remove it" in capsys.readouterr().err


@pytest.mark.parametrize("checksum", [f"sha256:{SHA256}", f"md5:{MD5}"])
def test_a_published_checksum_is_checked_and_nothing_recorded(web: Web, tmp_path: Path, checksum: str) -> None:
    get(source(web, checksum), tmp_path)
    assert names(tmp_path / "downloads") == ["chairs.zip"]


@pytest.mark.parametrize("checksum", [f"sha256:{'0' * 64}", f"md5:{'0' * 32}"])
def test_another_checksum_than_published_keeps_nothing(web: Web, tmp_path: Path, checksum: str) -> None:
    with pytest.raises(DownloadError, match=r"chairs\.zip: not the checksum that the publisher states.*0000.*but got"):
        get(source(web, checksum), tmp_path)
    assert names(tmp_path / "downloads") == []
    assert not (tmp_path / "Chairs").exists()


def test_the_checksum_of_the_first_download_is_recorded_and_said(
    web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    get(source(web), tmp_path)
    assert (tmp_path / "downloads/chairs.zip.sha256").read_text() == f"{SHA256}  chairs.zip\n"
    assert f"no checksum is published for chairs.zip; recorded in {tmp_path}" in capsys.readouterr().err


def test_a_later_download_must_match_the_first(web: Web, tmp_path: Path) -> None:
    get(source(web), tmp_path)
    (tmp_path / "downloads/chairs.zip").unlink()
    (tmp_path / "Chairs").rename(tmp_path / "before")
    web.files["chairs.zip"] = zipped(flow=b"another flow")
    with pytest.raises(DownloadError, match=r"not the checksum that the first download had, see .*chairs\.zip\.sha256"):
        get(source(web), tmp_path)
    assert not (tmp_path / "Chairs").exists()
    web.files["chairs.zip"] = CONTENT
    get(source(web), tmp_path)
    assert (tmp_path / "Chairs/flow").read_bytes() == b"a flow"


def test_an_archive_that_changed_on_the_disk_is_not_unpacked(web: Web, tmp_path: Path) -> None:
    get(source(web), tmp_path)
    (tmp_path / "Chairs").rename(tmp_path / "before")
    (tmp_path / "downloads/chairs.zip").write_bytes(zipped(flow=b"another flow"))
    with pytest.raises(DownloadError, match=r"chairs\.zip: not the checksum that the first download had.*remove the"):
        get(source(web), tmp_path)


def tarred(**files: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def test_a_checksum_is_recorded_when_what_it_vouches_for_was_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not say how much is to come, and breaks off the first time."""
    monkeypatch.setenv("no_proxy", "*")
    whole = tarred(noise=np.random.default_rng(0).bytes(20_000))
    with saying(lambda n, _: [b"HTTP/1.1 200 OK\r\n\r\n", whole[:15_000] if n == 1 else whole]) as (url, heads):
        archive = Archive(out="set", urls=(url,), name="a.tar.gz")
        one = Source(title="t", page="p", licence="l", archives=(archive,))
        with pytest.raises(ArchiveError, match=r"a\.tar\.gz: the archive is damaged: it ends in the middle"):
            get(one, tmp_path)
        assert names(tmp_path / "downloads") == []
        assert not (tmp_path / "set").exists()
        get(one, tmp_path)
    assert len(heads) == 2
    assert hashlib.sha256(whole).hexdigest() in (tmp_path / "downloads/a.tar.gz.sha256").read_text()
    assert (tmp_path / "set/noise").stat().st_size == 20_000


def test_a_damaged_archive_of_one_address_is_replaced_from_the_next(web: Web, tmp_path: Path) -> None:
    web.files["cut.zip"] = CONTENT[:-100]
    get(source(web, urls=(web.url("cut.zip"), web.url("chairs.zip"))), tmp_path)
    assert (tmp_path / "Chairs/flow").read_bytes() == b"a flow"
    assert (tmp_path / "downloads/chairs.zip.sha256").read_text() == f"{SHA256}  chairs.zip\n"


@pytest.mark.parametrize("content", [CONTENT[:-100], b"<html>Please log in</html>", b"", None])
def test_a_file_of_the_users_own_stays(content: bytes | None, web: Web, tmp_path: Path) -> None:
    path = tmp_path / "downloads/chairs.zip"
    path.parent.mkdir()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    for checksum in (None, f"sha256:{SHA256}"):
        with pytest.raises((ArchiveError, DownloadError), match=r"downloads/chairs\.zip: "):
            get(source(web, checksum), tmp_path)
    assert path.is_dir() if content is None else path.read_bytes() == content
    assert names(tmp_path / "downloads") == ["chairs.zip"]
    assert web.requests == []


def test_a_file_that_the_user_puts_there_meanwhile_stays(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(url: str, kept: Path, **_: object) -> None:
        kept.write_bytes(CONTENT)
        (tmp_path / "downloads/chairs.zip").write_bytes(b"mine")

    monkeypatch.setattr("deq_core.experiment.download.fetch.download", slow)
    with pytest.raises(DownloadError, match=r"downloads/chairs\.zip: another process has written this file meanwhile"):
        get(source(web), tmp_path)
    assert (tmp_path / "downloads/chairs.zip").read_bytes() == b"mine"


def test_a_damaged_record_is_an_error(web: Web, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/chairs.zip.sha256").write_text("hello")
    with pytest.raises(DownloadError, match=r"chairs\.zip\.sha256: expected a SHA-256 checksum"):
        get(source(web), tmp_path)


def test_a_mirror_helps_where_the_first_address_does_not(web: Web, tmp_path: Path) -> None:
    get(source(web, urls=(web.url("gone.zip"), web.url("chairs.zip"))), tmp_path)
    assert (tmp_path / "Chairs/flow").exists()


def test_where_no_address_works_the_error_says_what_to_do_by_hand(web: Web, tmp_path: Path) -> None:
    urls = (web.url("gone.zip"), web.url("lost.zip"))
    with pytest.raises(DownloadError) as caught:
        get(source(web, urls=urls), tmp_path)
    for part in ("gone.zip: the server answers 404", "lost.zip: the server answers 404", "http://chairs.test"):
        assert part in str(caught.value)
    assert f"put the file at {tmp_path / 'downloads/chairs.zip'} and run this again" in str(caught.value)


def test_a_set_behind_a_login_says_how_to_fetch_it_and_takes_the_file(web: Web, tmp_path: Path) -> None:
    closed = replace(source(web, urls=()), manual="Log in first.")
    with pytest.raises(DownloadError, match=r"Log in first\. The page is http://chairs\.test; put the file at .*zip"):
        get(closed, tmp_path)
    (tmp_path / "downloads/chairs.zip").write_bytes(CONTENT)
    get(closed, tmp_path)
    assert (tmp_path / "Chairs/flow").read_bytes() == b"a flow"
    assert web.requests == []


def test_a_set_without_archives_says_what_to_do(web: Web, tmp_path: Path) -> None:
    manual = replace(source(web), archives=(), manual="Unpack it yourself.")
    with pytest.raises(DownloadError, match=r"by hand from http://chairs\.test: Unpack it yourself\."):
        get(manual, tmp_path)
    with pytest.raises(ValueError, match="Chairs: a source needs archives, or words"):
        replace(manual, manual="")


def test_a_web_page_instead_of_another_file_is_neither_kept_nor_recorded(web: Web, tmp_path: Path) -> None:
    web.files["split.txt"] = b"\n<!DOCTYPE html>\n<title>Please log in</title>"
    split = Archive(out="Chairs/chairs_split.txt", urls=(web.url("split.txt"),))
    with pytest.raises(DownloadError, match=r"expected split\.txt, got a web page"):
        get(replace(source(web), archives=(split,)), tmp_path)
    assert not (tmp_path / "Chairs").exists()
    assert names(tmp_path / "downloads") == []


def test_two_processes_do_not_write_one_file(web: Web, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    with (
        FileLock(tmp_path / "downloads/.chairs.zip.lock"),
        pytest.raises(DownloadError, match=r"chairs\.zip: another process is downloading it"),
    ):
        get(source(web), tmp_path)
    assert web.requests == []


def test_a_folder_that_cannot_be_written_is_an_output_error(web: Web, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write /sys/downloads/chairs\.zip"):
        get(source(web), Path("/sys"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a parent of it is a file|a file is where a folder is needed"):
        get(source(web), tmp_path / "file")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"out": "../x", "name": "a"}, "below the folder of the data"),
        ({"out": "/x", "name": "a"}, "below the folder of the data"),
        ({"out": "x"}, "needs a name"),
        ({"out": "x", "name": "../a"}, "needs a name"),
        ({"out": "x", "urls": ("file:///etc/passwd",)}, "expected an http or https URL"),
        ({"out": "x", "name": "a", "checksum": "abc"}, "checksum must be"),
    ],
)
def test_an_archive_is_checked_when_it_is_described(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Archive(**fields)
