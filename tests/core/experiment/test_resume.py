"""Downloads from a server on this machine: broken connections, changed files, refusals, full disks."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.core.experiment.server import Web, saying, serving
from tests.core.experiment.test_files import file_size_limit

from deq_core.experiment.download import kept as keeping
from deq_core.experiment.download import resume
from deq_core.experiment.download.resume import DownloadError, download
from deq_core.experiment.files import OutputError

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as web:
        web.files["file"] = CONTENT
        yield web


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def get(source: Web | str, kept: Path, tries: int = 2, timeout: float = 60.0) -> None:
    """Downloads the file of a server, or of an address, without a pause between attempts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TRIES": tries, "PAUSE": 0.0, "TIMEOUT": timeout}.items():
            patch.setattr(resume, name, value)
        download(source if isinstance(source, str) else source.url("file"), kept)


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
    with pytest.raises(
        DownloadError,
        match=r"gave up after 2 attempts, the last 1 without progress.*100000 bytes are kept in .*kept: run this",
    ):
        get(web, tmp_path / "kept", tries=1)
    get(web, tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == CONTENT
    assert web.asked == [None, "bytes=100000-", "bytes=100000-"]
    assert names(tmp_path) == ["kept"]


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
    get(web.url("mirror"), tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == OTHER


def test_a_refusal_is_final_and_a_busy_server_is_asked_again(web: Web, tmp_path: Path) -> None:
    web.codes = [503, 429]
    get(web, tmp_path / "kept", tries=3)
    assert (tmp_path / "kept").read_bytes() == CONTENT
    web.codes, web.requests = [403], []
    with pytest.raises(DownloadError, match="/file: the server answers 403"):
        get(web, tmp_path / "other")
    assert len(web.requests) == 1


def test_no_server_is_an_error_that_says_why(tmp_path: Path) -> None:
    with serving() as web:
        address = web.url("file")
    with pytest.raises(DownloadError, match="Connection refused"):
        get(address, tmp_path / "kept", tries=1)


def test_a_full_disk_is_an_output_error_and_what_came_is_continued(web: Web, tmp_path: Path) -> None:
    with file_size_limit(120_000), pytest.raises(OutputError, match=r"cannot write .*kept: .*size limit"):
        get(web, tmp_path / "kept")
    assert len(web.requests) == 1, "asking again does not empty a disk"
    get(web, tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == CONTENT
    assert web.asked[1] == "bytes=120000-"


BODY = CONTENT[:1000]
Answer = Callable[[int, str], Iterable[bytes]]


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def whole(*lines: str, body: bytes = BODY, length: int = len(BODY)) -> list[bytes]:
    return [head(f"Content-Length: {length}", *lines), body]


def part(start: int, end: int, *lines: str, body: bytes = BODY) -> list[bytes]:
    said = (f"Content-Range: bytes {start}-{end}/1000", f"Content-Length: {end + 1 - start}")
    return [head(*said, *lines, status="206 Partial Content"), body[start : end + 1]]


def begun(answer: Answer) -> Answer:
    """A server that breaks off after 400 bytes at first, then gives `answer`."""
    return lambda number, head: whole('ETag: "1"', body=BODY[:400]) if number == 1 else answer(number, head)


def redirected(place: str) -> Answer:
    return lambda *_: [head(f"Location: {place}", "Content-Length: 0", status="302 Found")]


def in_pieces(*pieces: bytes, pause: float) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        time.sleep(pause)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda number, _: whole(body=BODY[: 100 * (1 + number % 2)]), "closed after [12]00 bytes of 1000"),
        (lambda number, _: whole(f'ETag: "{number}"', body=BODY[: 100 * (1 + number % 3)]), "bytes of 1000"),
        (lambda *_: whole(body=b""), "closed after 0 bytes of 1000"),
        (lambda *_: [], "closed connection without response"),
        (lambda *_: [b"SSH-2.0\r\n"], "SSH-2.0"),
        (lambda *_: [head("Content-Length: abc"), BODY], "answers Content-Length 'abc', which is not a length"),
        (lambda *_: [head("Content-Length: -5"), BODY], "answers Content-Length '-5'"),
        (lambda *_: [head("Content-Length: " + "9" * 5000), BODY], "answers Content-Length '999"),
        (lambda *_: [head(status="204 No Content")], "the server answers 204 No Content"),
        (lambda *_: [head("Content-Length: 2", status="202 Accepted"), b"{}"], "the server answers 202 Accepted"),
        (lambda *_: [head("Transfer-Encoding: chunked"), b"3e8\r\n", BODY[:100]], "IncompleteRead"),
        (lambda *_: [head("Transfer-Encoding: chunked"), b"xyz\r\n"], "IncompleteRead"),
        (
            begun(lambda *_: [part(400, 999)[0].replace(b"600", b"1600"), BODY * 2]),
            "'bytes 400-999/1000' where bytes from 0",
        ),
        (lambda *_: part(5, 999), "Content-Range 'bytes 5-999/1000' where bytes from 0 on were asked for"),
        (lambda *_: [head("Content-Length: 0", status="416 Range Not Satisfiable")], "the server answers 416 Range"),
        (redirected("http://[bad"), "is not valid: .*IPv6"),
        (redirected("http://127.0.0.1:port/x"), "is not valid: .*port"),
        (redirected(f"http://{'a' * 70}.test/"), "is not valid: "),
        (redirected("/file"), "the server answers 302 .*infinite loop"),
        (redirected("file:///etc/passwd"), "the server answers 302 Found - Redirection to url 'file:///etc/passwd'"),
        (redirected("ftp://127.0.0.1/file"), "unknown url type: ftp"),
    ],
)
def test_every_download_ends_and_says_what_the_server_did(
    answer: Answer, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with saying(answer) as (url, heads), pytest.raises(DownloadError) as caught:
        get(url, tmp_path / "kept", tries=3, timeout=5.0)
    assert re.match(rf"{url}: .*{says}", str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    assert len(heads) < 15


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (begun(lambda *_: part(300, 999)), "Content-Range 'bytes 300-999/1000' where bytes from 400"),
        (begun(lambda *_: [head("Content-Length: 600", status="206 Partial Content"), BODY[400:]]), "Range '' where"),
        (begun(lambda *_: part(400, 500, 'ETag: "2"')), 'part of version "2" of the file'),
        (begun(lambda *_: part(400, 1999, body=BODY * 2)), "'bytes 400-1999/1000' where bytes from 400"),
        (
            begun(lambda *_: [head("Content-Range: bytes */9", "Content-Length: 0", status="416 Range")]),
            "the server has no byte 400",
        ),
    ],
)
def test_a_part_that_was_not_asked_for_is_no_part_of_the_file(
    answer: Answer, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with saying(answer) as (url, heads), pytest.raises(DownloadError, match=says):
        get(url, tmp_path / "kept", tries=1)
    assert len(heads) == 2
    assert not keeping.mark(tmp_path / "kept").exists(), "the next attempt begins anew"


@pytest.mark.parametrize(
    "answer",
    [
        lambda *_: [head("Transfer-Encoding: chunked"), b"3e8\r\n", BODY, b"\r\n0\r\n\r\n"],
        lambda *_: [head("Transfer-Encoding: chunked", "Content-Length: 5"), b"3e8\r\n", BODY, b"\r\n0\r\n\r\n"],
        lambda *_: [head(), BODY],
        lambda *_: whole(body=BODY + b"more than announced"),
        lambda *_: part(0, 999),
        begun(lambda *_: part(400, 999, 'ETag: "1"')),
        begun(lambda number, _: part(400 + 100 * (number - 2), 499 + 100 * (number - 2), 'ETag: "1"')),
        begun(lambda *_: whole('ETag: "2"')),
    ],
)
def test_whatever_way_a_file_comes_it_is_whole(answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "kept").write_bytes(b"of something else")
    with saying(answer) as (url, _):
        get(url, tmp_path / "kept", tries=2)
    assert (tmp_path / "kept").read_bytes() == BODY


def test_a_server_that_gives_a_byte_more_each_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(resume, "ATTEMPTS", 20)
    monkeypatch.setattr(resume, "SLOWEST", 0)  # this machine may be busy
    with saying(lambda number, _: whole(body=BODY[:number])) as (url, heads), pytest.raises(DownloadError) as caught:
        get(url, tmp_path / "kept", tries=3)
    assert "gave up after 20 attempts" in str(caught.value)
    assert len(heads) == 20


@pytest.mark.parametrize("pause", [0.02, 0.4])
def test_a_server_that_stalls_or_trickles_is_given_up(
    pause: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    pieces = [BODY[place : place + 1] for place in range(20)]
    tagged = head("Content-Length: 1000", 'ETag: "1"')
    start = time.monotonic()
    with saying(lambda *_: in_pieces(tagged, *pieces, pause=pause)) as (url, _):
        with pytest.raises(DownloadError, match=r"timed out|bytes came in"):
            get(url, tmp_path / "kept", tries=2, timeout=0.2)
        assert time.monotonic() - start < 60


def test_a_file_larger_than_the_free_disk_is_refused_before_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with (
        saying(lambda *_: whole(length=10**17)) as (url, heads),
        pytest.raises(
            OutputError, match=r"cannot write .*kept: 100000000000000000 bytes are still to come, but only \d+ are free"
        ),
    ):
        get(url, tmp_path / "kept")
    assert len(heads) == 1


def test_a_process_killed_at_a_new_beginning_leaves_nothing_to_continue(web: Web, tmp_path: Path) -> None:
    """What is kept of an old version must not be continued as the new one."""
    kept = tmp_path / "kept"
    kept.write_bytes(OTHER[:100_000])
    seen = []
    begin = keeping.begin

    def look(path: Path, *version: str | None) -> None:
        seen.append(keeping.size(path))
        begin(path, *version)  # pyright: ignore[reportArgumentType] - as it came

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "begin", look)
        get(web, kept)
    assert seen == [0]


START = CONTENT[:100_000].rstrip(b"\0")


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        (CONTENT, ["bytes=300000-"]),  # killed before the end was noted
        (CONTENT + b"x", ["bytes=300001-", None]),
        *((START + bytes(zeros), [f"bytes={len(START)}-"]) for zeros in (1, 5000, 3_000_000)),  # of a power cut
        (bytes(100), [None]),
    ],
)
def test_what_an_earlier_process_left_is_continued_where_its_content_ends(
    left: bytes, asked: list[str | None], web: Web, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(left)
    keeping.begin(kept, web.url("file"), web.tag, None)
    get(web, kept)
    assert kept.read_bytes() == CONTENT
    assert web.asked == asked
