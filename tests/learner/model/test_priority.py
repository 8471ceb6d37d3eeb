"""The learner gives way: as idle work beside a chat, and with a tenth of a core where that is switched off."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASK = """
import os, subprocess, sys
from learner.model.priority import give_way, started_as_idle_work
give_way(idle=sys.argv[1] == "idle")
give_way(idle=sys.argv[1] == "idle")
from learner.model.lanes import alone, in_lanes
import torch
here = lambda *_: os.sched_getscheduler(0)
other = started_as_idle_work(lambda: subprocess.run([sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"], capture_output=True, text=True))
print(here(), *in_lanes(here, [1, 2], 2), *in_lanes(here, [1], 2), alone(here), int(other.stdout), os.nice(0), os.environ["OMP_WAIT_POLICY"])
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux knows idle work")
@pytest.mark.parametrize(("how", "policy"), [("idle", "SCHED_IDLE"), ("low", "SCHED_OTHER")])
def test_lanes_a_single_one_too_and_the_sampling_engine_are_idle_work_and_who_writes_to_the_store_is_not(how, policy):
    said = subprocess.run([sys.executable, "-c", ASK, how], capture_output=True, text=True, check=True).stdout.split()
    idle = str(getattr(os, policy))
    assert said == [str(os.SCHED_OTHER), *[idle] * 5, str(max(10, os.nice(0))), "PASSIVE"]
