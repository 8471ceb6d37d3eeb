"""A real vLLM server as a child process, and a base model in the form that it reads."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from data.records import BaseModel
from tests.support.loras import load_policy

START_SECONDS = 600


def write_transformers_folder(base: BaseModel, folder: Path) -> Path:
    """The base model's weights, unpacked, as vLLM reads them: it has no reader of GGUF files of its own."""
    load_policy(base).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base.folder / name, folder)
    return folder


class VllmProcess:
    """`vllm serve` on the CPU, from the environment that VLLM_PYTHON is the interpreter of. The port stays when it is started again."""

    def __init__(self, model: Path, log: Path, *, dtype: str) -> None:
        self.model, self.log, self.dtype = model, log, dtype
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> float:
        """Returns: seconds until it answered."""
        begun = time.monotonic()
        # Two faults of 0.32 on a CPU, not on a GPU: a prompt in chunks and a seed together end its engine ("CPU Generator does
        # not use offset"); and in a batch with adapters, rows without one get whatever is in the last slot. So there are no
        # chunks, and more slots than are ever taken here.
        command = [os.environ["VLLM_PYTHON"], "-m", "vllm.entrypoints.cli.main", "serve", str(self.model), "--enable-lora", "--max-loras", "8",
                   "--dtype", self.dtype, "--host", "127.0.0.1", "--port", str(self.port), "--enforce-eager",
                   "--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192"]
        environment = {**os.environ, "VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
                       "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        with open(self.log, "ab") as output:
            self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - begun > START_SECONDS:
                self.stop()
                raise RuntimeError(f"vLLM did not start; {self.log} says why:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.5)
        return time.monotonic() - begun

    def stop(self) -> None:
        """Gone at once, with its engine process: what a crash or a lost machine looks like."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2).status_code == 200
        except httpx.TransportError:
            return False
