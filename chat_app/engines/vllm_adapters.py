"""Which adapters the processes of this machine hold on a vLLM server, and when one is unloaded."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from chat_app.engines.vllm_server import Refused, ServerAway, UnknownModel, VllmServer
from data.adapters import WEIGHTS

log = logging.getLogger(__name__)

UNLOADS, MISSES = 24, 3
"""Behind one address every server that has an adapter is to let go of it: asked until so many in a row have none, so often at most."""


class HeldAdapters:
    """Which adapters this process holds on the server: a name may belong to a version's new worker and its dying one.

    Other processes of this machine see it by a shared lock on the adapter's weights, which ends with its process, also when that
    is killed. The last one to let go unloads the adapter.
    """

    def __init__(self, server: VllmServer) -> None:
        self.server = server
        self._counts: Counter[str] = Counter()
        self._marks: dict[str, BinaryIO] = {}
        self._order = asyncio.Lock()

    async def acquire(self, name: str, path: str, folder: Path) -> None:
        """Args: path: of the adapter as the server sees it; folder: as we do."""
        async with self._order:
            if not self._counts[name]:
                self._marks[name] = await asyncio.to_thread(_marked, folder)
            try:
                await self.server.load(name, path)
            except BaseException:
                if not self._counts[name]:
                    self._marks.pop(name).close()
                raise
            self._counts[name] += 1

    async def release(self, name: str) -> None:
        async with self._order:
            self._counts[name] -= 1
            if not self._counts[name]:
                with self._marks.pop(name) as mark:
                    await self._unload_if_nobody_else_holds(name, mark, in_doubt=True)

    async def tidy(self, folders: dict[str, Path]) -> None:
        """Unload those of these adapters that nobody holds: left by a killed process, or by an unloading that failed.

        Only processes on this machine are seen to hold one. Another machine's that reads the same path, or one on a file system
        without locks, may want it still: then its next reply finds it gone and loads it again.
        """
        async with self._order:
            for name, folder in folders.items():
                with contextlib.suppress(FileNotFoundError), (folder / WEIGHTS).open("rb") as mark:
                    await self._unload_if_nobody_else_holds(name, mark, in_doubt=False)

    async def _unload_if_nobody_else_holds(self, name: str, mark: BinaryIO, *, in_doubt: bool) -> None:
        """Args: in_doubt: whether to unload where the file system has no locks."""
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who wants it now waits until it is gone everywhere
        except BlockingIOError:
            return
        except OSError:
            if not in_doubt:
                return
        missed = 0
        try:
            for _ in range(UNLOADS):
                try:
                    await self.server.unload(name)
                    missed = 0
                except UnknownModel:
                    missed += 1
                    if missed == MISSES:
                        return
        except (ServerAway, Refused) as error:
            log.warning("%s may still be loaded, the vLLM server %s; it is unloaded with the next version that is loaded", name, error)


def _marked(folder: Path) -> BinaryIO:
    """The weights, open; for as long as they are, no process on this machine unloads the adapter."""
    file = (folder / WEIGHTS).open("rb")
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_SH)
    return file
