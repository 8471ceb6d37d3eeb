"""The parent's side: an engine's process, and a learner's beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from benchmarks.memory import peak_mb, reset_peaks
from benchmarks.serving.jobs import Job


class EngineProcess:
    """Starts when made; `cold_start` is seconds from then to its first token, libraries and model included."""

    def __init__(self, engine: str, given: dict, folder: Path) -> None:
        file = folder / f"job-{engine}.json"
        file.write_text(json.dumps({**given, "engine": engine}))
        self.engine, self._log = engine, (folder / f"{engine}.log").open("w", encoding="utf-8")
        start = time.monotonic()
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.serving.worker", str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._log, text=True)
        self._answer()
        self.cold_start = time.monotonic() - start

    def measure(self, job: Job, material: dict) -> dict:
        """Raises: RuntimeError: the engine could not do it."""
        reset_peaks(self._process.pid)
        try:
            self._process.stdin.write(json.dumps({"work": job.work, "tokens": job.tokens, **material}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:                               # it has ended: the answer below says with what code
            pass
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return {**answer["figures"], "peak_mb": peak_mb(self._process.pid)}

    def close(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()

    def _answer(self) -> dict:
        answer = next_answer(self._process.stdout, self._log)
        if answer is None:
            raise RuntimeError(f"{self.engine} ended with code {self._process.wait()}; {self._log.name} says why")
        return answer


def next_answer(lines: Iterable[str], log: TextIO) -> dict | None:
    """The next line that is a JSON object, None when there are no more; whatever else is printed belongs in the log."""
    for line in lines:
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            answer = None
        if isinstance(answer, dict):
            return answer
        log.write(line)
    return None


class Learner:
    """The learner's optimizer steps at its own low priority; stopped (SIGSTOP) but for `running()`."""

    def __init__(self, given: dict, folder: Path) -> None:
        file = folder / "job-learner.json"
        file.write_text(json.dumps(given))
        self._log = (folder / "learner.log").open("w", encoding="utf-8")
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.serving.learner", str(file)], stdout=subprocess.PIPE, stderr=self._log,
                                         env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})            # as the learner starts; an engine as it comes
        if not self._process.stdout.readline():               # one line, when its first step is done
            raise RuntimeError(f"the learner ended with code {self._process.wait()}; {self._log.name} says why")
        self.pause()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
