"""The whole chat app as people meet it: from its first instant, and with a crowd in front of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.memory import peak_mb, resident_mb
from data.records import BaseModel

WAIT_SECONDS = 600
PEOPLE = 64
LATER = 16
"""How many come when every place is taken; as many as have been answered by then are let in."""
AT_ONCE = 32
ROUNDS = 4
"""Crowds one after another: what each leaves behind would add up."""
TURN_SECONDS = 1.0
"""A turn is seen this late at most, by those who watch a busy server: only who is further ahead has overtaken somebody."""


class App:
    """`python app.py` over `state`; made when its page answers, `first_page` seconds after its start."""

    def __init__(self, base: BaseModel, state: Path, log: Path, **settings: object) -> None:
        """Raises: RuntimeError: it did not come up."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        told = {"STATE_DIR": state, "PORT": port, "HOST": "127.0.0.1", "BASE_MODEL": base.source, **settings}
        self.start = time.monotonic()
        with log.open("a") as output:
            self._process = subprocess.Popen([sys.executable, "app.py"], stdout=output, stderr=output, cwd=Path(__file__).parents[2],
                                             env={**os.environ, **{name: str(value) for name, value in told.items()}})
        self.pid = self._process.pid
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - self.start > WAIT_SECONDS:
                self.close()
                raise RuntimeError(f"app.py did not come up; {log} says why")
            time.sleep(0.05)
        self.first_page = time.monotonic() - self.start

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def __enter__(self) -> App:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=5).close()
            return True
        except (urllib.error.URLError, OSError):
            return False


@dataclass
class Heard:
    """What somebody heard who sent one message through the public API; moments on the monotonic clock, None while it has not come."""

    asked: float = field(default_factory=time.monotonic)
    places: list[int] = field(default_factory=list)
    """In the line, each time they changed."""
    accepted: float | None = None
    turn: float | None = None
    """Place 0 was seen."""
    first: float | None = None
    """... the first letter, ..."""
    ended: float | None = None
    text: str = ""
    error: str | None = None


def ask(url: str, message: str, heard: Heard, *, first_letter_only: bool = False) -> Heard:
    """Send `message` and listen to its end."""
    try:
        for value in _values(url, message):
            now = time.monotonic()
            heard.accepted = heard.accepted or now
            heard.text = value["text"]
            if value.get("place", 0) not in heard.places[-1:]:
                heard.places.append(value.get("place", 0))
            if value.get("place", 0) == 0:
                heard.turn = heard.turn or now
            if heard.text:
                heard.first = heard.first or now
                if first_letter_only:
                    break
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        heard.error = str(error)
    heard.ended = time.monotonic()
    return heard


def cold_start(base: BaseModel, folder: Path) -> dict:
    """Seconds to the first page and to the first letter of a first reply: with the model in its cache and nothing else, and started again."""
    with _state(base, folder) as state:
        found = {}
        for name in ("", "again_"):
            with App(base, state, folder / "app.log") as app:
                heard = ask(app.url, "Tell me about rain.", Heard(), first_letter_only=True)
                if heard.first is None:
                    raise RuntimeError(f"the first message was not answered: {heard.error or 'nothing came'}")
                found |= {f"{name}first_page": app.first_page, f"{name}first_token": heard.first - app.start, f"{name}peak_mb": peak_mb(app.pid)}
        return found


def crowd(base: BaseModel, folder: Path, messages: Sequence[str]) -> dict:
    """`PEOPLE` at once, half of them in line, and when all are in, `LATER` more; several times over.

    Args: messages: PEOPLE + LATER for each of the rounds.
    """
    rounds, server, in_all = [], [], []
    with _state(base, folder) as state, App(base, state, folder / "crowd.log", MAX_STREAMS=AT_ONCE, MAX_WAITING=PEOPLE - AT_ONCE, LEARNER="false") as app:
        ask(app.url, "Hello", Heard())
        for number in range(ROUNDS):
            rounds.append(_round(app.url, messages[number * (PEOPLE + LATER):][:PEOPLE + LATER]))
            server.append(resident_mb(app.pid, descendants=False))
            in_all.append(resident_mb(app.pid))
    people, told = [one for crowd, _ in rounds for one in crowd], [[one for one in late if "try again" in (one.error or "")] for _, late in rounds]
    return {"people": PEOPLE, "answered": min(sum(one.error is None and bool(one.text) for one in crowd) for crowd, _ in rounds),
            "saw_a_place": min(sum(max(one.places, default=0) > 0 for one in crowd) for crowd, _ in rounds),
            "last_place": max(place for one in people for place in one.places),
            "out_of_turn": max(out_of_turn(crowd) for crowd, _ in rounds),
            "later": LATER, "told_busy": min(map(len, told)),
            "neither": sum(bool(one.error) and one not in busy for (_, late), busy in zip(rounds, told, strict=True) for one in late),
            "busy_seconds": max((one.ended - one.asked for busy in told for one in busy), default=None),
            "first_token": median((one.first or one.ended) - one.asked for one in people),
            "last_first_token": max((one.first or one.ended) - one.asked for one in people),
            "seconds": median(max(one.ended for one in crowd) - min(one.asked for one in crowd) for crowd, _ in rounds),
            "server_mb": server, "in_all_mb": in_all, "server_growth_mb": server[-1] - server[0], "growth_mb": in_all[-1] - in_all[0]}


def out_of_turn(crowd: Sequence[Heard], seconds: float = TURN_SECONDS) -> int:
    """How many moved back in the line, or had their turn this much before somebody whose first place was before theirs."""
    waited = sorted((one for one in crowd if one.places and one.places[0] > 0 and one.turn is not None), key=lambda one: one.places[0])
    found, latest = 0, float("-inf")
    for one in waited:
        found += one.turn < latest - seconds or one.places != sorted(one.places, reverse=True)
        latest = max(latest, one.turn)
    return found


def _round(url: str, messages: Sequence[str]) -> tuple[list[Heard], list[Heard]]:
    crowd, late = [Heard() for _ in messages[:PEOPLE]], []
    threads = [threading.Thread(target=ask, args=(url, message, heard)) for message, heard in zip(messages, crowd, strict=False)]
    for thread in threads:
        thread.start()
    while not all(one.accepted or one.ended for one in crowd):
        time.sleep(0.01)
    late = [Heard() for _ in messages[PEOPLE:]]
    threads += [threading.Thread(target=ask, args=(url, message, heard)) for message, heard in zip(messages[PEOPLE:], late, strict=True)]
    for thread in threads[PEOPLE:]:
        thread.start()
    for thread in threads:
        thread.join()
    return crowd, late


@contextmanager
def _state(base: BaseModel, folder: Path) -> Iterator[Path]:
    """A state folder that has the imported base model and nothing else; gone afterwards."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".app-") as state:
        shutil.copytree(base.folder, Path(state) / "models" / base.folder.name)
        yield Path(state)


def _values(url: str, message: str) -> Iterator[dict]:
    """What `/send` says, as it comes. Raises: RuntimeError: what it says is an error; OSError."""
    request = urllib.request.Request(f"{url}/gradio_api/call/send", json.dumps({"data": [message, None, None, True]}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.loads(answer.read())["event_id"]
    with urllib.request.urlopen(f"{url}/gradio_api/call/send/{event}", timeout=WAIT_SECONDS) as answer:
        kind = ""
        for line in answer:
            name, _, rest = line.decode().strip().partition(": ")
            if name == "event":
                kind = rest
            elif name == "data" and kind == "error":
                raise RuntimeError(rest)
            elif name == "data" and rest.startswith("["):
                yield json.loads(rest)[0]
