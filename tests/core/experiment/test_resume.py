"""Downloads from a server on this machine: broken connections, changed files, refusals, full disks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.core.experiment.server import Web, serving
from tests.core.experiment.test_files import file_size_limit

from deq_core.experiment import resume
from deq_core.experiment.files import OutputError
from deq_core.experiment.resume import DownloadError, download

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(resume, "CHUNK", 10_000)  # bytes that are lost with a connection
    with serving() as web:
        web.files["file"] = CONTENT
        yield web


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def get(web: Web, kept: Path, tries: int = 2) -> None:
    download(web.url("file"), kept, tries=tries, pause=0.0)


def test_a_file_comes_whole_and_alone(web: Web, tmp_path: Path) -> None:
    get(web, tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == CONTENT
    assert names(tmp_path) == ["kept"]
    assert web.asked == [None]


def test_a_server_that_turns_pythons_own_client_away_is_answered(web: Web, tmp_path: Path) -> None:
    web.turned_away = "Python-urllib"
    get(web, tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == CONTENT


def test_broken_connections_are_continued(web: Web, tmp_path: Path) -> None:
    web.breaks = [100_000, 50_000, 50_000, 50_000]
    get(web, tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == CONTENT
    assert web.asked == [None, "bytes=100000-", "bytes=150000-", "bytes=200000-", "bytes=250000-"]


def test_a_later_call_continues_what_an_earlier_one_left(web: Web, tmp_path: Path) -> None:
    web.breaks = [100_000, 0]
    with pytest.raises(DownloadError, match=r"gave up after 1 attempts.*100000 bytes are kept in .*kept: run this"):
        get(web, tmp_path / "kept", tries=1)
    get(web, tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == CONTENT
    assert web.asked == [None, "bytes=100000-", "bytes=100000-"]
    assert names(tmp_path) == ["kept"]


def test_a_file_that_changed_meanwhile_begins_anew(web: Web, tmp_path: Path) -> None:
    web.breaks = [100_000, 0]
    with pytest.raises(DownloadError):
        get(web, tmp_path / "kept", tries=1)
    web.files["file"], web.tag = OTHER, '"two"'
    get(web, tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == OTHER


@pytest.mark.parametrize(("tag", "ranges"), [(None, True), ('W/"weak"', True), ('"one"', False)])
def test_a_server_that_cannot_continue_begins_anew(web: Web, tmp_path: Path, tag: str | None, ranges: bool) -> None:
    web.tag, web.ranges, web.breaks = tag, ranges, [100_000]
    get(web, tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == CONTENT
    assert len(web.requests) == 2


def test_another_url_is_not_continued(web: Web, tmp_path: Path) -> None:
    web.files["mirror"] = OTHER
    web.breaks = [100_000, 0]
    with pytest.raises(DownloadError):
        get(web, tmp_path / "kept", tries=1)
    download(web.url("mirror"), tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == OTHER


def test_a_download_whose_end_was_not_noted_is_whole(web: Web, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(CONTENT)
    resume.begin(kept, web.url("file"), web.tag, None)
    get(web, kept)
    assert kept.read_bytes() == CONTENT
    assert web.asked == ["bytes=300000-"]


def test_more_bytes_than_the_file_has_begin_anew(web: Web, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(CONTENT + b"x")
    resume.begin(kept, web.url("file"), web.tag, None)
    get(web, kept)
    assert kept.read_bytes() == CONTENT


def test_a_refusal_is_final_and_a_busy_server_is_asked_again(web: Web, tmp_path: Path) -> None:
    web.codes = [503, 429]
    get(web, tmp_path / "kept", tries=3)
    assert (tmp_path / "kept").read_bytes() == CONTENT
    web.codes, web.requests = [403], []
    with pytest.raises(DownloadError, match="/file: the server answers 403"):
        get(web, tmp_path / "other")
    assert len(web.requests) == 1


def test_a_server_that_sends_nothing_is_given_up(web: Web, tmp_path: Path) -> None:
    web.breaks = [0] * 10
    with pytest.raises(DownloadError, match="gave up after 3 attempts without a byte: the connection closed after 0"):
        get(web, tmp_path / "kept", tries=3)
    assert len(web.requests) == 3


def test_no_server_is_an_error_that_says_why(tmp_path: Path) -> None:
    with serving() as web:
        address = web.url("file")
    with pytest.raises(DownloadError, match="Connection refused"):
        download(address, tmp_path / "kept", tries=1)


def test_a_full_disk_is_an_output_error_and_what_came_is_continued(web: Web, tmp_path: Path) -> None:
    with file_size_limit(120_000), pytest.raises(OutputError, match=r"cannot write .*kept: .*size limit"):
        get(web, tmp_path / "kept")
    assert len(web.requests) == 1, "asking again does not empty a disk"
    get(web, tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == CONTENT
    assert web.asked[1] == "bytes=120000-"


def test_a_folder_that_cannot_be_written_is_an_output_error(web: Web) -> None:
    with pytest.raises(OutputError, match=r"cannot write /sys/kept"):
        get(web, Path("/sys/kept"))
