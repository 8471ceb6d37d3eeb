"""Serving by a vLLM server, or several behind one address: versions are loaded there at run time, replies come back as token ids.

The server must serve the same base model (`vllm serve MODEL --enable-lora` with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True)
and read the adapters' folder. It may go, and come back without its adapters: they are loaded again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path, PurePosixPath

from chat_app.engines.fit import check_fit
from chat_app.engines.protocol import EngineAway, VersionNotLoaded
from chat_app.engines.streams import FedStream
from chat_app.engines.versions import VersionedEngine
from chat_app.engines.vllm_adapters import HeldAdapters
from chat_app.engines.vllm_server import Refused, ServerAway, UnknownModel, VllmServer
from chat_app.engines.vllm_worker import RemoteWorker
from data.errors import AdapterMismatch
from data.records import BaseModel, Sampling
from data.sentences import said


class VllmEngine(VersionedEngine):
    """An `Engine` over a vLLM server's completions."""

    name = "vllm"

    def __init__(self, base: BaseModel, eos_ids: frozenset[int], url: str, api_key: str | None = None, adapters_dir: str | None = None):
        """
        Args:
            url: `http://host:port`.
            adapters_dir: the folder of all adapters as the server sees it; None: as we do.
        """
        super().__init__()
        self._base, self._eos_ids, self._url, self._adapters_dir = base, eos_ids, url, adapters_dir
        self._away = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        self._held = HeldAdapters(VllmServer(url, api_key))

    def stream(self, prompt_ids: Sequence[int], sampling: Sampling, version: int) -> FedStream:
        try:
            return super().stream(prompt_ids, sampling, version)
        except VersionNotLoaded as error:
            with self._lock:
                lost = version in self._workers
            if lost or self._away:
                raise EngineAway(said("server_away")) from error
            raise

    def close(self) -> None:
        super().close()
        if self._thread.is_alive():
            self._wait(self._held.server.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _start(self, version: int, adapter: Path | None) -> RemoteWorker:
        if adapter is not None:
            check_fit(self._base, adapter)
        try:
            worker = self._wait(self._load(adapter))
        except (ServerAway, UnknownModel, Refused) as error:
            self._away = True
            raise EngineAway(said("vllm_cannot_be_used", url=self._url, error=str(error))) from error
        self._away = False
        return worker

    async def _load(self, adapter: Path | None) -> RemoteWorker:
        """Raises: EngineFailed; AdapterMismatch: it is the version's fault. ServerAway; UnknownModel; Refused: the server's."""
        base_name, longest, there = await self._held.server.models()
        name, path = (base_name, None) if adapter is None else (adapter.name, self._seen_there(adapter))
        if adapter is not None:
            others = {other: adapter.parent / other for other in there if other != name}
            await self._held.tidy({other: folder for other, folder in others.items() if there[other] == self._seen_there(folder)})
            await self._acquire(name, path, adapter)
        worker = RemoteWorker(self._held, self._loop, name, path, self._eos_ids, min(self._base.context_length, longest or self._base.context_length))
        try:
            await worker.probe()
        except BaseException:
            worker.retire()
            raise
        return worker

    async def _acquire(self, name: str, path: str, adapter: Path) -> None:
        try:
            await self._held.acquire(name, path, adapter)
        except UnknownModel as error:
            if "Not Found" == str(error):
                raise Refused("it loads no adapters: start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True") from error
            raise Refused(f"{error}; it must be able to read the adapters: share that folder, and set VLLM_ADAPTERS_DIR where its path is another") from error
        except Refused as error:
            if "max_lora_rank" in str(error) or "VLLM_API_KEY" in str(error):
                raise
            raise AdapterMismatch(said("vllm_refuses_adapter", folder=name, error=str(error))) from error

    def _seen_there(self, adapter: Path) -> str:
        return str(PurePosixPath(self._adapters_dir) / adapter.name) if self._adapters_dir else str(adapter.resolve())

    def _wait(self, work: Coroutine):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
