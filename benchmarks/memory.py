"""What memory processes take, as Linux tells it in /proc."""

from __future__ import annotations

from collections.abc import Set
from contextlib import suppress
from pathlib import Path


def peak_mb(pid: int) -> float | None:
    """Highest resident memory since `reset_peaks`, MB, of a process and its descendants, each at its own peak; None where the system does not say."""
    return _memory_mb(pid, "VmHWM")


def children_peak_mb(pid: int, but: Set[int] = frozenset()) -> float:
    """Highest resident memory so far, MB, of the programs that it started and that run now, each at its own peak, but for these; 0 where there are none.

    A child that is not yet a program of its own has its parent's memory, and still its command line too.
    """
    own = _command(pid)
    return round(sum(peak_mb(child) or 0 for child in children(pid) if child not in but and _command(child) != own), 1)


def resident_mb(pid: int, *, descendants: bool = True) -> float | None:
    """Resident memory now, MB, of a process and its descendants."""
    return _memory_mb(pid, "VmRSS", descendants)


def reset_peaks(pid: int) -> None:
    """Where the system does not allow it, a peak is the highest since the process began."""
    for member in _family(pid):
        with suppress(OSError):
            Path(f"/proc/{member}/clear_refs").write_text("5")


def _memory_mb(pid: int, kind: str, descendants: bool = True) -> float | None:
    try:
        own = int(Path(f"/proc/{pid}/status").read_text().split(f"{kind}:")[1].split()[0]) / 1e3
    except (OSError, IndexError):
        return None
    return round(own + sum(_memory_mb(child, kind) or 0 for child in children(pid) if descendants), 1)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _family(pid: int) -> list[int]:
    return [pid, *(member for child in children(pid) for member in _family(child))]


def children(pid: int) -> list[int]:
    """Processes that it started and that run now."""
    try:
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return []
