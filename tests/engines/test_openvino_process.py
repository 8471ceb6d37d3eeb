"""A version of OpenVINO's is a process of its own: it hears a stop in the middle of a step, and ends with its parent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from data.records import Sampling
from tests.support.engine_fixtures import GREEDY, exact_engine, finish
from tests.support.waiting import until


def test_a_stop_is_heard_before_openvinos_step_has_ended(endless_base, tmp_path):
    engine = exact_engine("openvino", endless_base, tmp_path)
    engine.load(0, None)
    stream = engine.stream([5 + at % 200 for at in range(endless_base.context_length - 10)], Sampling(max_new_tokens=5), 0)
    stream.cancel()
    assert stream.ended and stream.result().completion_ids == ()           # at once, while the long prompt is being read
    assert finish(engine.stream([5, 6], GREEDY, 0)).finish_reason == "length"
    engine.close()


def test_the_process_of_a_version_ends_with_the_one_that_started_it(tiny_base, tmp_path):
    line = (
        "import os, sys, time; from pathlib import Path\n"
        "from chat_app.engines import make_engine; from data.base_models import load_base_model\n"
        "engine = make_engine('openvino', load_base_model(Path(sys.argv[1])), Path(sys.argv[2])); engine.load(0, None)\n"
        "print(engine._workers[0]._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", line, str(tiny_base.folder), str(tmp_path)]
    child = int(subprocess.run(command, stdout=subprocess.PIPE, timeout=120).stdout)
    until(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    """Whether that process is at work: nobody may be left to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
