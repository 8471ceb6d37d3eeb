"""A package index on a local port, as unreliable as a test wants it."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from data.base_models.download import PinnedFile


class PackageIndex:
    """Serves one file; `cut_after` ends the next download early, `ranges` False ignores Range headers."""

    def __init__(self, content: bytes, *, project: str = "tiny-model", filename: str = "tiny_model-1.0-py3-none-any.whl"):
        self.content = content
        self.pinned = PinnedFile(project, filename, len(content), hashlib.sha256(content).hexdigest())
        self.cut_after: int | None = None
        self.ranges = True
        self.requests: list[str | None] = []
        """The Range header of every download so far."""
        self.url = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path == f"/simple/{self.pinned.project}/":
            files = [{"filename": self.pinned.filename, "url": f"/files/{self.pinned.filename}", "hashes": {}}]
            self._send(request, 200, json.dumps({"files": files}).encode())
        elif request.path == f"/files/{self.pinned.filename}":
            wanted = request.headers.get("Range")
            self.requests.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
            head = {"Content-Range": f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"} if start else {}
            self._send(request, 206 if start else 200, self.content[start:], head, self.cut_after)
            self.cut_after = None
        else:
            self._send(request, 404, b"")

    def _send(self, request, status: int, body: bytes, headers: dict | None = None, cut_after: int | None = None) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[:cut_after])


@contextmanager
def serving(index: PackageIndex):
    """Run `index` on a free port; `index.url` is its simple index."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            index.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
