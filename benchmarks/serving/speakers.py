"""The engines behind one small interface, each importing its own library only when it is chosen."""

from __future__ import annotations

import importlib.util
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from chat_app.engines import engine_name
from data.cpus import usable_cpus
from data.records import BaseModel, Sampling

SAMPLING = Sampling(temperature=0.8, top_p=0.95, top_k=50)
"""The product's, asked of every engine."""


@dataclass
class Said:
    """One reply and when its tokens arrived."""

    ids: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """Seconds on the monotonic clock, one per id; tokens that arrive together share theirs."""

    def add(self, ids: Sequence[int]) -> None:
        self.times += [time.monotonic()] * len(ids)
        self.ids += ids


class Speaker(Protocol):
    """Loaded when made, with the base model and the adapter merged into it."""

    def say(self, prompts: Sequence[Sequence[int]], tokens: int, seed: int) -> list[Said]:
        """One reply of exactly `tokens` per prompt, all at once."""
        ...

    def close(self) -> None: ...


class Ours:
    """The engine that the product would take on this machine, with log-probs, as the chat uses it; end-of-text does not end a reply here."""

    def __init__(self, base: BaseModel, adapter: Path, cache_dir: Path) -> None:
        if engine_name("auto", base) == "openvino":
            from chat_app.engines.openvino import OpenVinoEngine

            self.engine = OpenVinoEngine(base, cache_dir, frozenset())
        else:
            from chat_app.engines.transformers import TransformersEngine

            self.engine = TransformersEngine(base, frozenset())
        self.engine.load(1, adapter)

    def say(self, prompts: Sequence[Sequence[int]], tokens: int, seed: int) -> list[Said]:
        said, wait = self.begin(prompts, tokens, seed)
        wait()
        return said

    def begin(self, prompts: Sequence[Sequence[int]], tokens: int, seed: int, version: int = 1) -> tuple[list[Said], Callable[[], None]]:
        """Replies that grow while the caller does something else, and how to wait for their end."""
        said = [Said() for _ in prompts]
        streams = [self.engine.stream(prompt, Sampling(SAMPLING.temperature, SAMPLING.top_p, SAMPLING.top_k, tokens, seed + place), version)
                   for place, prompt in enumerate(prompts)]

        def read(place: int) -> None:
            for batch in streams[place]:
                said[place].add(batch)

        threads = [threading.Thread(target=read, args=(place,), daemon=True) for place in range(len(prompts))]
        for thread in threads:
            thread.start()
        return said, lambda: [thread.join() for thread in threads] and None

    def close(self) -> None:
        self.engine.close()


class Transformers:
    """`generate` over a padded batch in the fastest type, the adapter merged into the weights."""

    def __init__(self, base: BaseModel, adapter: Path, cache_dir: Path) -> None:
        import torch
        from peft import PeftModel

        torch.set_num_threads(usable_cpus())
        self._torch, self._device = torch, "cuda" if torch.cuda.is_available() else "cpu"
        self._model = PeftModel.from_pretrained(plain_model(base, self._device), str(adapter)).merge_and_unload().eval().to(self._device)

    def say(self, prompts: Sequence[Sequence[int]], tokens: int, seed: int) -> list[Said]:
        torch, said = self._torch, [Said() for _ in prompts]
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])

        class Clock:
            """What `generate` calls with the prompts and then with each step's tokens."""

            def put(self, value) -> None:
                if value.dim() == 1:
                    for one, token in zip(said, value.tolist(), strict=True):
                        one.add([token])

            def end(self) -> None: ...

        torch.manual_seed(seed)
        with torch.inference_mode():
            self._model.generate(input_ids=ids.to(self._device), attention_mask=mask.to(self._device), do_sample=True, temperature=SAMPLING.temperature, top_p=SAMPLING.top_p, top_k=SAMPLING.top_k,
                                 min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0, streamer=Clock())
        return said

    def close(self) -> None: ...


def plain_model(base: BaseModel, device: str):
    """The base model in transformers, unpacked, in the type that is fastest on `device`."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    from learner.model.policy import fast_dtype

    model = AutoModelForCausalLM.from_pretrained(str(base.folder), gguf_file=base.gguf.name, dtype=fast_dtype(torch.device(device)),
                                                 attn_implementation="sdpa", quantization_config=GgufConfig(dequantize=True))
    model.config.quantization_config = model.hf_quantizer = None               # plain weights from here on
    return model


def available(vllm_python: str | None) -> list[str]:
    """Engines that can be measured here, ours first."""
    found = ["ours", "transformers"]
    found += ["llama.cpp"] if importlib.util.find_spec("llama_cpp") else []
    return found + (["vllm"] if vllm_python else [])


def lacking(engines: Sequence[str], vllm_python: str | None) -> str | None:
    """Why one of the engines that are asked for cannot be measured here, and what to do; None when all can."""
    if "vllm" in engines and not vllm_python:
        return "vLLM runs in an environment of its own, and none is named; make one with tests/external/vllm.sh and give its interpreter as --vllm-python or VLLM_PYTHON."
    if "vllm" in engines and not shutil.which(vllm_python):
        return f"There is no interpreter {vllm_python} to start vLLM with; make one with tests/external/vllm.sh, or correct --vllm-python or VLLM_PYTHON."
    if "llama.cpp" in engines and "llama.cpp" not in available(vllm_python):
        return "llama.cpp is not installed; pip install -e '.[benchmark-llama-cpp]' compiles it in about half an hour."
    return None


def make_speaker(name: str, base: BaseModel, adapter: Path, cache_dir: Path, vllm_python: str | None = None) -> Speaker:
    if name == "ours":
        return Ours(base, adapter, cache_dir)
    if name == "transformers":
        return Transformers(base, adapter, cache_dir)
    if name == "llama.cpp":
        from benchmarks.serving.llama_cpp_speaker import LlamaCpp

        return LlamaCpp(base, adapter, cache_dir)
    from benchmarks.serving.vllm_speaker import Vllm

    return Vllm(base, adapter, cache_dir, vllm_python)
