"""`python app.py` as a process of its own, as a person starts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from gradio_client import Client

ROOT = Path(__file__).parent.parent.parent


def free_port() -> str:
    """Any of tens of thousands, so that two test processes hardly ever choose the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class ServerProcess:
    """A running chat server on a free port over `state_dir`.

    Args:
        base: the imported base model to serve; its folder's parent is linked in as `STATE_DIR/models`.
        wait: whether to wait until it is up; else call `wait_until_up`.
        environment: further settings, e.g. LEARNER="false".
    """

    def __init__(self, state_dir: Path, base, *, wait: bool = True, **environment: str) -> None:
        self.state_dir = state_dir
        state_dir.mkdir(parents=True, exist_ok=True)
        if not (state_dir / "models").exists():
            (state_dir / "models").symlink_to(base.folder.parent)
        self.environment = {**os.environ, "STATE_DIR": str(state_dir), "BASE_MODEL": base.source, "PORT": free_port(), "HOST": "127.0.0.1", **environment}
        self.output: list[str] = []
        self.process = subprocess.Popen([sys.executable, "-u", "app.py"], cwd=ROOT, env=self.environment, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=lambda: self.output.extend(iter(self.process.stdout.readline, "")), daemon=True)
        self._reader.start()
        if wait:
            self.wait_until_up()

    def wait_until_up(self) -> None:
        self.url = self._wait_for(r"Chat: +(http\S+)")

    @property
    def text(self) -> str:
        return "".join(self.output)

    @property
    def sign_in_link(self) -> str:
        """The newest one-time link on the terminal."""
        self._wait_for(r"works once: (http\S+)")
        return re.findall(r"works once: (http\S+)", self.text)[-1]

    def client(self) -> Client:
        """A script's session: one anonymous person."""
        return Client(self.url, verbose=False)

    def learn(self, *options: str, seconds: float = 300) -> subprocess.CompletedProcess:
        """`python -m learner ...` over the same state folder, as a maintainer runs it in a shell."""
        return subprocess.run([sys.executable, "-m", "learner", *options], cwd=ROOT, env=self.environment, text=True,
                              capture_output=True, timeout=seconds)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> int:
        """Ctrl-C; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError(f"the server does not stop:\n{self.text}") from None
        return self.process.returncode

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def _wait_for(self, pattern: str, seconds: float = 120) -> str:
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            log = self.state_dir / "logs" / "server.log"
            assert self.process.poll() is None and time.monotonic() < deadline, f"no {pattern!r} in:\n{self.text}\n{log.read_text() if log.exists() else ''}"
            time.sleep(0.1)
        return found[1]
