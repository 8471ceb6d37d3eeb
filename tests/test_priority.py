"""The learner gives way: as idle work beside a chat, and with a tenth of a core where that is switched off."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASK = """
import os, sys, threading
from learner.priority import give_way
give_way(idle=sys.argv[1] == "idle")
give_way(idle=sys.argv[1] == "idle")
found = []
thread = threading.Thread(target=lambda: found.append((os.sched_getscheduler(0), os.nice(0), os.environ["OMP_WAIT_POLICY"])))
thread.start()
thread.join()
print(*found[0])
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux knows idle work")
@pytest.mark.parametrize(("how", "policy"), [("idle", "SCHED_IDLE"), ("low", "SCHED_OTHER")])
def test_what_a_run_computes_gives_way_in_every_thread_it_starts(how, policy):
    said = subprocess.run([sys.executable, "-c", ASK, how], capture_output=True, text=True, check=True).stdout.split()
    assert said == [str(getattr(os, policy)), str(max(10, os.nice(0))), "PASSIVE"]
