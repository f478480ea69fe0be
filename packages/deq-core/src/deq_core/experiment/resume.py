"""Downloads over HTTP that continue where a broken connection left them."""

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from deq_core.experiment.files import OutputError, explained, write_text

CHUNK = 1 << 20  # bytes
AGENT = "deq-core"  # some servers turn away what Python calls itself
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)  # what a server says when it is worth asking again


class DownloadError(RuntimeError):
    """A file that could not be downloaded, or is not what it should be; the message says what to do."""


def download(url: str, kept: Path, *, tries: int = 5, pause: float = 1.0, timeout: float = 60.0) -> None:
    """Fills `kept` with what `url` holds, continuing what an earlier call left there.

    A file is continued only if the server confirms, by the ETag or date it gave at the start, that it is still the
    same; else it begins anew. What marks the start is kept beside the file until the download is whole.

    Args:
        url: http or https.
        kept: the file; on failure it keeps what has come so far.
        tries: attempts in a row without a new byte before giving up.
        pause: seconds before the second attempt; doubled at each further one.
        timeout: seconds without an answer after which a connection counts as broken.

    Raises:
        DownloadError: the server refuses, or attempts are used up.
        OutputError: `kept` cannot be written.
    """
    idle, fault = 0, ""
    while idle < tries:
        before = size(kept)
        if idle:
            time.sleep(pause * 2 ** (idle - 1))
        try:
            if transfer(url, kept, timeout):
                mark(kept).unlink(missing_ok=True)
                return
            fault = f"the connection closed after {size(kept)} bytes"
        except urllib.error.HTTPError as error:
            if error.code not in TEMPORARY:
                raise DownloadError(f"{url}: the server answers {error.code} {error.reason}") from error
            fault = f"the server answers {error.code} {error.reason}"
        except OutputError:
            raise
        except (OSError, http.client.HTTPException) as error:
            fault = str(error) or type(error).__name__
        idle = 0 if size(kept) > before else idle + 1
    kept_so_far = f"; {size(kept)} bytes are kept in {kept}: run this again to continue" if size(kept) else ""
    raise DownloadError(f"{url}: gave up after {tries} attempts without a byte: {fault}{kept_so_far}")


def transfer(url: str, kept: Path, timeout: float) -> bool:
    """One attempt: appends to `kept`, or begins it anew. Whether it is whole now."""
    state = version_of(kept, url)
    have = size(kept) if state else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": AGENT}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": state}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return True  # the process was killed between the last byte and the end of `download`
        mark(kept).unlink(missing_ok=True)
        return False
    with response, explained(kept):
        continued = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if continued and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            mark(kept).unlink(missing_ok=True)  # another piece than asked for
            return False
        have = have if continued else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        if not continued:
            begin(kept, url, response.headers.get("ETag"), response.headers.get("Last-Modified"))
        with (
            kept.open("ab" if continued else "wb") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=kept.stem, disable=None) as bar,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        return total is None or size(kept) == total


def begin(kept: Path, url: str, tag: str | None, date: str | None) -> None:
    """Notes which version of `url` is begun; a server that names none (or only a weak tag) cannot be continued."""
    version = tag if tag and not tag.startswith("W/") else date
    if version:
        write_text(mark(kept), f"{url}\n{version}\n")
    else:
        mark(kept).unlink(missing_ok=True)


def version_of(kept: Path, url: str) -> str:
    """The version of `url` that `kept` was begun with; empty where it cannot be continued."""
    try:
        begun, version = mark(kept).read_text().splitlines()
    except (FileNotFoundError, ValueError):
        return ""
    return version if begun == url else ""


def mark(kept: Path) -> Path:
    """The file beside `kept` that says which version it was begun with."""
    return kept.with_name(f"{kept.name}.version")


def size(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0
