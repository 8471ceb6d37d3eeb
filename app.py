"""Composition root, and a Space's entry: settings -> store -> engine -> pages; starts the learner beside the server."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from chat_app.bounds import bounds
from chat_app.engines import engine_name, make_engine
from chat_app.identity import Identity, cookie_key
from chat_app.maintenance import Maintenance
from chat_app.page import build_pages, launch_arguments, open_queue
from chat_app.service import ChatService
from chat_app.serving import Serving
from chat_app.sign_in import Door
from data.adapters import AdapterRegistry
from data.base_models import import_base_model
from data.errors import BadSetting, ChatError
from data.progress import terminal_patience, terminal_progress
from data.settings import Settings, load_settings
from data.store import Store
from data.sync.sync import sync_thread

log = logging.getLogger("app")

LOG_BYTES = 10_000_000
"""A log that is larger is put aside, under its name with a number ..."""
LOGS_KEPT = 3
"""... and so many of the server's are kept; of the learner's, which writes a few lines a run, one."""
AGAIN_SECONDS = 10.0
"""How long after the learner ended, or could not be started, it is started again."""


def main() -> int:
    try:
        return serve(load_settings())
    except ChatError as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        return 1


def serve(settings: Settings) -> int:
    """Run the chat server until SIGINT or SIGTERM; returns the exit status."""
    check_address(settings.host, settings.port)
    store = Store(settings.database)
    set_up_logging(settings.logs_dir)
    store.fail_interrupted_replies()
    registry = AdapterRegistry(store, settings.adapters_dir)
    registry.sweep_at_start()
    syncing = sync_thread(settings, store, registry, learner=False)
    with terminal_progress() as progress:
        base = import_base_model(settings.base_model, settings.models_dir, progress)
    with terminal_patience(f"Starting {engine_name(settings.engine, base)}"):
        engine = make_engine(settings.engine, base, settings.merged_dir, vllm_url=settings.vllm_url, vllm_api_key=settings.vllm_api_key,
                             vllm_adapters_dir=settings.vllm_adapters_dir)
    serving = Serving(engine, store, registry, base)
    with terminal_patience(f"Loading {base.name}"):
        serving.start()
    if not engine.loaded():
        print(f"The model's server cannot be used yet; {settings.logs_dir / 'server.log'} says why. It is asked again every few seconds.", flush=True)
    service = ChatService(store, serving, base, settings)
    maintenance = Maintenance(store, registry, serving, base, settings, service.fresh_ratings)
    identity = Identity(settings.cookie_secret or cookie_key(settings.state_dir), settings.maintainer_password)
    url = ""

    def announce(path: str) -> None:
        print(f"\n  Maintainer sign-in, works once: {url}{path}\n", flush=True)

    door = Door(identity, settings.maintainer_password, announce)
    pages = build_pages(service, identity, maintenance, settings)
    open_queue(pages, max_size=4 * (settings.max_streams + settings.max_waiting))
    _, local_url, _ = pages.launch(server_name=settings.host, server_port=settings.port or None, prevent_thread_lock=True,
                                   quiet=True, **launch_arguments([*bounds(settings), *door.middleware()], settings))
    url = local_url.rstrip("/")
    print(f"\n  Chat:       {url}\n  Maintainer: {url}/maintainer", flush=True)
    door.announce_link()

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    learner = LearnerProcess(settings.logs_dir) if settings.learner else None
    if syncing and not learner:                   # else the learner's process does more than this one could
        syncing.start()
    while not stop.wait(1):
        if learner:
            learner.keep_running()
    print("Stopping: replies that are being written are kept.", flush=True)
    if learner:
        learner.close()
    if syncing and not learner:
        syncing.close()
    pages.close()
    service.close()
    serving.close()
    return 0


def check_address(host: str, port: int) -> None:
    """Before the model is loaded: whether anybody can listen there. Raises: BadSetting."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise BadSetting(f"Nobody can listen on HOST {host}, PORT {port} ({error.strerror}); set PORT to a free one, 0 finds one, or HOST to an address of this machine.") from error


class LearnerProcess:
    """`python -m learner --watch` as a child: started again when it dies or could not be started, ended with the server.

    The child's standard input is a pipe from here, so that it also ends when this process is killed.
    """

    def __init__(self, logs_dir: Path) -> None:
        self._log = logs_dir / "learner.log"
        self._child: subprocess.Popen | None = None
        self._again_at = 0.0

    def keep_running(self) -> None:
        if self._child and self._child.poll() is None:
            return
        if self._child:
            log.warning("The learner ended with status %s and is started again; %s says why", self._child.returncode, self._log)
            self._child = None
            self._again_at = time.monotonic() + AGAIN_SECONDS
        if time.monotonic() >= self._again_at:
            try:
                self._child = self._start()
            except OSError as error:              # too many files are open, or there is no memory for a process: the chat goes on
                log.warning("The learner cannot be started (%s) and is tried again", error)
                self._again_at = time.monotonic() + AGAIN_SECONDS

    def _start(self) -> subprocess.Popen:
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES:
            self._log.replace(self._log.with_name(f"{self._log.name}.1"))
        with open(self._log, "ab") as output:
            return subprocess.Popen([sys.executable, "-m", "learner", "--watch", "--until-stdin-closes"],
                                    stdin=subprocess.PIPE, stdout=output, stderr=output)

    def close(self) -> None:
        if self._child and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(15)
            except subprocess.TimeoutExpired:
                self._child.kill()                # safe at any instant: nothing half-published survives


def server_log(folder: Path) -> logging.Handler:
    return RotatingFileHandler(folder / "server.log", maxBytes=LOG_BYTES, backupCount=LOGS_KEPT, encoding="utf-8")


def set_up_logging(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s",
                        handlers=[server_log(folder)])
    logging.getLogger("httpx").setLevel(logging.WARNING)       # else a line for every reply of a vLLM server


if __name__ == "__main__":
    sys.exit(main())
