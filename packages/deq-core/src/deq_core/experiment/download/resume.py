"""HTTP downloads that resume after a broken connection, and always terminate."""

import contextlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from tqdm import tqdm

from deq_core.experiment.download.kept import begin, cut_zeros, mark, size, version_of
from deq_core.experiment.errors import UserError
from deq_core.experiment.files import OutputError, explained

CHUNK = 1 << 20  # bytes
AGENT = "deq-core"  # some servers reject Python's default
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses that are worth a retry
ATTEMPTS = 1000  # limit on all attempts, even if each makes progress
TRIES = 5  # consecutive attempts without progress (new bytes, SLOWEST or more of them a second) before giving up
PAUSE = 1.0  # seconds before the second attempt, doubled for each further one
TIMEOUT = 60.0  # seconds without an answer, or with less than SLOWEST, after which a connection counts as broken
SLOWEST = 1000  # bytes per second


class DownloadError(UserError, RuntimeError):
    """A file could not be downloaded or is not the expected one; the message says what to do."""


class Redirects(urllib.request.HTTPRedirectHandler):
    """Redirect handler that closes the connection even if the redirect is invalid."""

    def http_error_302(self, req, fp, code, msg, headers):  # pyright: ignore[reportIncompatibleMethodOverride] - untyped
        with contextlib.closing(fp):
            return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class Broken(Exception):
    """An attempt failed in a way that is worth a retry."""


def download(url: str, kept: Path) -> None:
    """Downloads `url` to `kept`, resuming an earlier partial download.

    A download resumes only if the server confirms, by the ETag or date that it gave at first, that the file is
    unchanged; otherwise it restarts. The ETag or date is stored beside the file until the download is complete.

    Args:
        url: http or https URL.
        kept: the file; after a failure it keeps the bytes received so far.

    Raises:
        DownloadError: the server refuses, or all attempts failed.
        OutputError: `kept` cannot be written.
    """
    with explained(kept):
        cut_zeros(kept)
    attempts = idle = 0
    largest, fault = size(kept), ""
    while idle < TRIES and attempts < ATTEMPTS:
        if idle:
            time.sleep(PAUSE * 2 ** (idle - 1))
        start = time.monotonic()
        try:
            transfer(url, kept)
        except Broken as error:
            fault = str(error)
        else:
            mark(kept).unlink(missing_ok=True)
            return
        new = size(kept) - largest
        attempts, largest = attempts + 1, max(largest, size(kept))
        idle = 0 if new > 0 and new >= SLOWEST * (time.monotonic() - start) else idle + 1
    continued = size(kept) and version_of(kept, url)
    kept_so_far = f"; {size(kept)} bytes are kept in {kept}: run this again to continue" if continued else ""
    raise DownloadError(
        f"{url}: gave up after {attempts} attempts, the last {idle} without progress: {fault}{kept_so_far}"
    )


def transfer(url: str, kept: Path) -> None:
    """One attempt to complete `kept`: appends to it or restarts it.

    Raises:
        Broken: the file is still incomplete.
    """
    state = version_of(kept, url)
    have = size(kept) if state else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": AGENT}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": state}
    response = answer(url, headers)
    with response, explained(kept):
        match response.status:
            case http.HTTPStatus.OK:
                have, total = 0, length(response)
            case http.HTTPStatus.PARTIAL_CONTENT:
                total = piece(response, have, state, kept)
            case http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE if have:
                if response.headers.get("Content-Range") == f"bytes */{have}":
                    return  # the process was killed between the last byte and the end of `download`
                raise changed(kept, f"the server has no byte {have}")
            case status:
                raise Broken(f"the server answers {status} {response.reason}")
        with kept.open("ab" if have else "wb") as file:
            room(kept, 0 if total is None else total - have)
            if not have:
                begin(kept, url, response.headers.get("ETag"), response.headers.get("Last-Modified"))
            with tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=kept.stem, disable=None) as bar:
                receive(response, file, bar)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and size(kept) > total:
        raise changed(kept, f"the server sent {size(kept)} bytes of {total}")
    if total is not None and size(kept) < total:
        raise Broken(f"the connection closed after {size(kept)} bytes of {total}")


def answer(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """The server's response: content, or the status that the requested range does not exist."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        *(urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler),
        *(urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler),
        Redirects,
    ):
        opener.add_handler(handler())  # no handlers of file or FTP URLs, so no redirects to them
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and "Range" in headers:
            return error  # pyright: ignore[reportReturnType] - it is a response as well
        error.close()
        said = f"the server answers {error.code} {error.reason.splitlines()[0] if error.reason else ''}".rstrip()
        if error.code in TEMPORARY:
            raise Broken(said) from error
        raise DownloadError(f"{url}: {said}") from error
    except (ValueError, OverflowError, http.client.InvalidURL) as error:
        raise DownloadError(f"{url}: it, or the address that the server redirects to, is not valid: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(reason(error)) from error


def receive(response: http.client.HTTPResponse, file: IO[bytes], bar: tqdm) -> None:
    """Writes the body of the response to `file`.

    Raises:
        Broken: the connection fails or is too slow.
    """
    since, came = time.monotonic(), 0
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(reason(error)) from error
        if not chunk:
            return
        file.write(chunk)
        bar.update(len(chunk))
        came += len(chunk)
        seconds = time.monotonic() - since
        if seconds > TIMEOUT:
            if came < SLOWEST * seconds:
                raise Broken(f"{came} bytes came in {seconds:.0f} seconds")
            since, came = time.monotonic(), 0


def reason(error: Exception) -> str:
    """Reason of a failed connection, in one line."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return (str(inner) or type(inner).__name__).splitlines()[0]


def length(response: http.client.HTTPResponse) -> int | None:
    """The announced number of bytes, None if there is none.

    Raises:
        Broken: the announcement is not a number.
    """
    said = response.headers.get("Content-Length")
    if said is None or response.headers.get("Transfer-Encoding"):
        return None
    if not re.fullmatch(r"[0-9]{1,18}", said):
        raise Broken(f"the server answers Content-Length {said!r}, which is not a length")
    return int(said)


def piece(response: http.client.HTTPResponse, have: int, state: str, kept: Path) -> int | None:
    """The full length of a file of which the server sends a part; None if it does not say.

    Raises:
        Broken: the part does not continue the first `have` bytes of version `state`.
    """
    said = response.headers.get("Content-Range", "")
    found = re.fullmatch(rf"bytes {have}-([0-9]{{1,18}})/([0-9]{{1,18}}|\*)", said)
    if found is None or (found[2] != "*" and int(found[1]) >= int(found[2])):
        raise changed(kept, f"the server answers Content-Range {said!r} where bytes from {have} on were asked for")
    tag = response.headers.get("ETag")
    if tag and state.startswith('"') and tag != state:
        raise changed(kept, f"the server answers with a part of version {tag} of the file, and {state} was begun")
    return None if found[2] == "*" else int(found[2])


def changed(kept: Path, why: str) -> Broken:
    """Forgets the recorded version, so that the next attempt restarts; returns the error."""
    mark(kept).unlink(missing_ok=True)
    return Broken(why)


def room(kept: Path, needed: int) -> None:
    """Raises OutputError if the disk has fewer than `needed` free bytes."""
    free = shutil.disk_usage(kept.parent).free
    if needed > free:
        raise OutputError(
            f"cannot write {kept}: {needed} bytes are still to come, but only {free} are free on the disk: free space "
            "there or choose another folder"
        )
