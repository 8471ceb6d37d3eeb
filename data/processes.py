"""Which process a row belongs to, and whether that one still runs: after a restart its number may be any other program's."""

from __future__ import annotations

import os
import secrets
import socket
import time
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

CLOCK_SECONDS = 2.0
"""How far the clock may have been moved between a process's start and a row of its."""


@dataclass(frozen=True)
class _Birth:
    name: str
    """Of which there is one on this machine, whatever was started since or before it was switched on."""
    at: float
    """Seconds since 1970."""


def this_process() -> str:
    """`host:number:birth`, without the birth where that is not known."""
    return ":".join(filter(None, (socket.gethostname(), str(os.getpid()), _own_birth(os.getpid()))))


def this_holder() -> str:
    """Another one at each call: two threads of a process do not hold one lease together, nor does one that has lost it."""
    return f"{this_process()}:{secrets.token_hex(4)}"


def is_here(owner: str) -> bool:
    """Whether that process is or was one of this machine's."""
    return owner.startswith(f"{socket.gethostname()}:")


def still_runs(owner: str, since: str) -> bool:
    """Whether another process of this machine still runs that has written a row since then, ISO 8601. Our own number means an earlier one that had it."""
    if not is_here(owner):
        return False
    _, number, birth = (*owner.split(":"), "")[:3]
    if int(number) == os.getpid() or not _exists(int(number)):
        return False
    born = _birth(int(number))
    if born is None:
        return True
    if birth:
        return birth == born.name
    return born.at <= datetime.fromisoformat(since).timestamp() + CLOCK_SECONDS       # a row from before births were written down


def _exists(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        return _stat(number)[0] not in "ZX"       # ended, and nobody has asked how: it writes no more
    except OSError:
        return True


@cache
def _own_birth(number: int) -> str:
    born = _birth(number)
    return born.name if born else ""


def _birth(number: int) -> _Birth | None:
    """None where the system does not tell, as macOS: there a process is known by its number alone."""
    try:
        ticks, boot = _stat(number)[19], Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return None
    switched_on = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return _Birth(f"{boot[:8]}-{ticks}", switched_on + int(ticks) / os.sysconf("SC_CLK_TCK"))


def _stat(number: int) -> list[str]:
    """What `proc(5)` counts from 3 on: its state, ..., when it began (22), in ticks since the machine was switched on. Raises: OSError."""
    return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
