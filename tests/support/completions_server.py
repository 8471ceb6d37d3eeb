"""A small real HTTP server that answers as vLLM does, for what a model is not needed for: being down, slow, restarted, cut off.

What it says is canned (token 40, then 41, ...): whether vLLM's numbers are right is for the real one to show (tests/external).
"""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BASE = "the-base"


class CompletionsServer:
    """Use as a context manager; `url` is its address. The attributes may be changed at any time."""

    def __init__(self, *, port: int = 0, api_key: str | None = None) -> None:
        self.api_key = api_key
        self.adapters: dict[str, str] = {}
        """Path by name."""
        self.requests: list[tuple[str, dict]] = []
        """(path, body) of every POST."""
        self.token_seconds = 0.002
        self.dies_after: int | None = None
        """Break the connection after so many tokens of a reply."""
        self.loads_adapters = True
        self.logprob: float | None = -0.5
        self.lacks_for = 0
        """So many completions more find no adapter, as if another server behind the same address had answered."""
        self.hung_up = 0
        """Replies that their reader left."""
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._open: set = set()
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> CompletionsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Gone at once, running replies and kept connections too."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            connection.close_now()

    def _handler(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                owner._open.add(self)

            def finish(self) -> None:
                owner._open.discard(self)
                try:
                    super().finish()
                except OSError:
                    pass

            def close_now(self) -> None:
                try:
                    self.connection.shutdown(2)
                except OSError:
                    pass

            def do_GET(self) -> None:
                cards = [{"id": BASE, "max_model_len": 512, "parent": None}]
                self._answer(200, {"data": cards + [{"id": name, "root": path, "parent": BASE} for name, path in owner.adapters.items()]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.requests.append((self.path, body))
                if owner.api_key and self.headers.get("Authorization") != f"Bearer {owner.api_key}":
                    self._answer(401, {"error": "Unauthorized"})
                elif self.path == "/v1/completions":
                    self._complete(body)
                elif not owner.loads_adapters:
                    self._answer(404, {"detail": "Not Found"})
                elif self.path == "/v1/load_lora_adapter" and body["lora_name"] in owner.adapters:
                    self._refuse(400, f"The lora adapter '{body['lora_name']}' has already been loaded.")
                elif self.path == "/v1/load_lora_adapter":
                    owner.adapters[body["lora_name"]] = body["lora_path"]
                    self._answer(200, "Success")
                elif owner.adapters.pop(body["lora_name"], None):
                    self._answer(200, "Success")
                else:
                    self._refuse(404, f"The lora adapter '{body['lora_name']}' cannot be found.")

            def _complete(self, body: dict) -> None:
                lacks, owner.lacks_for = owner.lacks_for > 0, max(0, owner.lacks_for - 1)
                if lacks or body["model"] not in (BASE, *owner.adapters):
                    return self._refuse(404, f"The model `{body['model']}` does not exist.")
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    for place in range(body["max_tokens"]):
                        if place == owner.dies_after:
                            return self.close_now()
                        last = place == body["max_tokens"] - 1
                        self._event({"choices": [{
                            "index": 0, "text": "", "finish_reason": "length" if last else None,
                            "logprobs": {"tokens": [f"token_id:{40 + place}"], "token_logprobs": [owner.logprob]}}]})
                        time.sleep(owner.token_seconds)
                    self._chunk(b"data: [DONE]\n\n")
                    self._chunk(b"")
                except OSError:
                    owner.hung_up += 1
                    self.close_connection = True

            def _event(self, event: dict) -> None:
                self._chunk(f"data: {json.dumps(event)}\n\n".encode())

            def _chunk(self, data: bytes) -> None:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

            def _refuse(self, status: int, message: str) -> None:
                self._answer(status, {"error": {"message": message, "type": "NotFoundError", "code": status}})

            def _answer(self, status: int, body: object) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class TurnTaker:
    """One address for several servers: each connection goes to the next one, byte for byte."""

    def __init__(self, *servers: CompletionsServer) -> None:
        self._servers = servers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TurnTaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        for turn in range(10_000):
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._servers[turn % len(self._servers)].port))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
