"""A web server on this machine whose connections break, whose files change, and which keeps a list of requests."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """What the server has and how it behaves; tests change it while it runs."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tag: str | None = '"one"'
    """ETag of every file."""
    ranges: bool = True
    """Whether a part of a file can be asked for."""
    breaks: list[int] = field(default_factory=list)
    """Bytes after which the next responses break off, first the next one; whole ones follow."""
    codes: list[int] = field(default_factory=list)
    """Error codes of the next responses; good ones follow."""
    turned_away: str | None = None
    """Programs whose name begins so are refused."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    @property
    def asked(self) -> list[str | None]:
        """The Range of each request."""
        return [asked for _, asked in self.requests]


@contextlib.contextmanager
def serving() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            web.requests.append((self.path, asked))
            if web.turned_away and self.headers["User-Agent"].startswith(web.turned_away):
                self.send_error(403)
                return
            if web.codes:
                self.send_error(web.codes.pop(0))
                return
            content = web.files.get(self.path.lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            start = 0
            if asked and web.ranges and self.headers["If-Range"] == web.tag:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # pyright: ignore[reportOptionalSubscript] - ours
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if web.tag:
                self.send_header("ETag", web.tag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            self.wfile.write(body[: web.breaks.pop(0)] if web.breaks else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def saying(answer: Callable[[int, str], Iterable[bytes]]) -> Iterator[tuple[str, list[str]]]:
    """A server that sends whatever `answer` gives for the number and head of a request, then closes.

    Yields its address, and the heads of the requests so far.
    """
    heads: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):  # of the listener when it is closed
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):  # of a client that has enough
                    heads.append(connection.recv(65536).decode())
                    for piece in answer(len(heads), heads[-1]):
                        connection.sendall(piece)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/file", heads
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
