"""What a process and those it starts take of the machine."""

import subprocess
import sys

from benchmarks.machine import Meter

OF_300_MB = "x = b'x' * 300_000_000; import time; time.sleep(1)"


def test_memory_of_processes_that_ended_meanwhile_is_told_beside_ones_own_and_is_not_that_of_who_started_them():
    held = b"x" * 600_000_000                                      # a child is this large at the instant when it is forked
    meter = Meter()
    subprocess.run([sys.executable, "-c", OF_300_MB], check=True)
    spent = meter.read()
    assert 300 < spent.children_peak_mb < 400 and spent.peak_mb > len(held) / 1e6


def test_who_starts_nothing_has_no_memory_beside_its_own_and_children_of_before_do_not_count():
    subprocess.run([sys.executable, "-c", OF_300_MB], check=True)
    with subprocess.Popen([sys.executable, "-c", OF_300_MB]):                              # still there
        assert Meter().read().children_peak_mb == 0
