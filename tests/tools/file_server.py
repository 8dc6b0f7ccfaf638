"""An HTTP server on this machine for the tests of downloads: it notes what is asked for, and can behave badly."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves `files` by their paths. Its fields may be changed between requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []  # path and Range of each request
        self.ranges = True  # whether it answers with a part where one is asked for
        self.cuts: list[int] = []  # after how many bytes each of the next answers ends
        self.stalls = False  # whether a cut answer ends in silence rather than at once
        self.closed = threading.Event()

    def serve(self, name: str, content: bytes) -> str:
        """Offer `content`; returns its address."""
        self.files[f"/{name}"] = content
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, *arguments: object) -> None:
        """Say nothing: a client that has seen enough hangs up, which is no fault of the server."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Range"]))
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(asked[1]) if asked and self.server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(content[start:][:cut])
        if cut is not None and self.server.stalls:
            self.server.closed.wait()

    def log_message(self, *arguments: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def file_server() -> Iterator[FileServer]:
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()
