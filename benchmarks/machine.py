"""What this machine could do at best, and what a process took of it."""

from __future__ import annotations

import os
import resource
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.memory import children, children_peak_mb
from data.cpus import usable_cpus

LOOK_SECONDS = 0.2
"""Between looks at the memory of children; a peak lasts as long as its process."""


@dataclass(frozen=True)
class Spent:
    """Resources between two moments of one process."""

    seconds: float
    """Wall clock."""
    cpu_seconds: float
    """Processor time of all threads and of the processes started meanwhile; on a shared machine the fairer figure."""
    peak_mb: float
    """Highest resident memory of the process so far, MB; on CUDA the highest allocated memory."""
    children_peak_mb: float
    """Highest resident memory of the processes started meanwhile, MB, those that live at once together: on a CPU our engine samples in one of its own, a peer in its own process."""


class Meter:
    """Counts from when it is made to when it is read, once."""

    def __init__(self) -> None:
        self._start, self._cpu = time.monotonic(), _cpu_seconds()
        self._before, self._children, self._read = frozenset(children(os.getpid())), 0.0, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def read(self) -> Spent:
        spent = round(time.monotonic() - self._start, 2), round(_cpu_seconds() - self._cpu, 2), round(peak_mb(), 1)
        self._read.set()
        self._watcher.join()
        return Spent(*spent, self._children)

    def _watch(self) -> None:
        """While they live, since afterwards the system tells of a child at least what its parent had when it was forked: 793 MB of `true`, started by a process with 800."""
        while True:
            self._children = max(self._children, children_peak_mb(os.getpid(), self._before))
            if self._read.wait(LOOK_SECONDS):
                return


def peak_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        status = Path("/proc/self/status").read_text()                   # ru_maxrss would count the parent this process was forked from
        return int(status.split("VmHWM:")[1].split()[0]) / 1e3
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def matmul_limit(dtype: torch.dtype, seconds: float = 1.0) -> float:
    """TFLOP/s of the best of several matrix products of the sizes that occur in training: rows of tokens by weights.

    A run cannot do its matrix products faster than this; what it reaches of it says how much is left.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    best = 0.0
    for rows, inner, columns in ((1440, 576, 1536), (1440, 1536, 576), (1024, 1024, 1024), (1440, 576, 49152)):
        a, b = torch.randn(rows, inner, device=device).to(dtype), torch.randn(columns, inner, device=device).to(dtype)
        a @ b.T
        end, times = time.monotonic() + seconds / 4, 0
        start = time.monotonic()
        while time.monotonic() < end or times < 2:
            a @ b.T
            times += 1
            if device == "cuda":
                torch.cuda.synchronize()
        best = max(best, 2 * rows * inner * columns * times / (time.monotonic() - start) / 1e12)
    return round(best, 3)


def copy_limit(times: int = 10) -> float:
    """GB/s at which memory is read and written, by copying a table many times the caches' size: both directions count.

    A reply's step reads every weight once: nothing that samples one token a step can be faster than this allows.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = torch.ones(2**31 if device == "cuda" else 2**29, dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), 0.0
    for _ in range(times):
        start = time.monotonic()
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * source.numel() / (time.monotonic() - start) / 1e9)
    return round(best, 1)


def describe() -> dict:
    """This machine in a few figures, printed beside every result."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"device": device, "cores": usable_cpus(), "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 2),
            "copy_gb_per_second": copy_limit(), "bf16_tflops": matmul_limit(torch.bfloat16), "fp32_tflops": matmul_limit(torch.float32)}


def _cpu_seconds() -> float:
    """Of this process, and of those it started that have ended: the serving engine runs in one of its own."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
