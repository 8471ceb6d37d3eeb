"""vLLM's own server on a CPU, in an environment of its own, with the adapter loaded as LoRA."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.speakers import SAMPLING, Said, plain_model
from data.records import BaseModel

START_SECONDS = 300
CONTEXT = 8192


class Vllm:
    """`vllm serve` as a child; asked over HTTP, one connection a reply."""

    def __init__(self, base: BaseModel, adapter: Path, cache_dir: Path, python: str) -> None:
        """Args: python: the interpreter of the environment that has vLLM.

        Raises: RuntimeError: the server did not come up.
        """
        folder = cache_dir / "plain" / base.id
        if not (folder / "config.json").exists():
            plain_model(base, "cpu").save_pretrained(folder)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(base.folder / name, folder / name)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}/v1/completions"
        # A prompt in chunks and a seed together end its engine (0.32, "CPU Generator does not use offset"): prompts are read whole.
        command = [python, "-m", "vllm.entrypoints.cli.main", "serve", str(folder), "--enable-lora", "--lora-modules", f"rated={adapter}",
                   "--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(CONTEXT), "--dtype", "bfloat16", "--enable-prefix-caching",
                   "--no-enable-chunked-prefill", "--max-num-batched-tokens", str(CONTEXT)]
        self._server = subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr, env={               # this process's log
            "VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", **os.environ})
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                if self._server.poll() is not None or time.monotonic() > end:
                    self.close()
                    raise RuntimeError("vLLM's server did not come up; its own output says why") from None
                time.sleep(0.2)

    def say(self, prompts: Sequence[Sequence[int]], tokens: int, seed: int) -> list[Said]:
        said, failures = [Said() for _ in prompts], []

        def read(place: int) -> None:
            asked = {"model": "rated", "prompt": list(prompts[place]), "max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True, "stream": True,
                     "seed": seed + place, "temperature": SAMPLING.temperature, "top_p": SAMPLING.top_p, "top_k": SAMPLING.top_k,
                     "return_token_ids": True}
            request = urllib.request.Request(self._url, json.dumps(asked).encode(), {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=600) as answer:
                    for line in answer:
                        if line.startswith(b"data: {"):
                            said[place].add(json.loads(line[6:])["choices"][0].get("token_ids") or [])
            except (OSError, KeyError, ValueError) as error:
                failures.append(error)

        threads = [threading.Thread(target=read, args=(place,)) for place in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise RuntimeError(f"vLLM refused a request: {failures[0]}")
        return said

    def close(self) -> None:
        self._server.terminate()
        try:
            self._server.wait(30)
        except subprocess.TimeoutExpired:
            self._server.kill()
