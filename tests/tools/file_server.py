"""An HTTP server on this machine for the tests of downloads: it counts requests and can behave badly."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files` by their paths. Its fields may be changed between requests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []  # path and Range of each
        self.ranges = True  # whether it answers with a part where one is asked for
        self.lengths = True  # whether it tells how long an answer is
        self.content_type = "application/octet-stream"
        self.cuts: list[int] = []  # after how many bytes each of the next answers ends
        self.stalls = False  # whether a cut answer ends in silence rather than at once
        self.closed = threading.Event()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def serve(self, name: str, content: bytes) -> str:
        """Offer `content`; returns its address."""
        self.files[f"/{name}"] = content
        return self.url(name)

    @property
    def asked(self) -> list[str | None]:
        """The Range of each request."""
        return [asked for _, asked in self.requests]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: FileServer = self.server.files
        server.requests.append((self.path, self.headers["Range"]))
        content = server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        start = 0
        if server.ranges and self.headers["Range"]:
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
            if start >= len(content):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", server.content_type)
        if server.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        try:
            self.wfile.write(content[start:][:cut])
            if cut is not None and server.stalls:
                server.closed.wait()
        except ConnectionError:
            pass  # the client has gone

    def log_message(self, *arguments: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def file_server() -> Iterator[FileServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.files = FileServer(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.files
    finally:
        server.files.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()
