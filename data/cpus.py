"""How many processor cores this process may really use."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cpus() -> int:
    """Cores by affinity, and by the container's quota where there is one; at least 1.

    A container that may use 2 of a host's 64 cores sees 64: 64 threads on a quota of 2 stall each other.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
