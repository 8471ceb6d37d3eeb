"""Serving engines: token ids in, token ids out, several adapter versions side by side.

Each engine imports its own heavy library only when it is chosen: with OpenVINO the chat process has no torch in it.
"""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from chat_app.engines.protocol import Engine, EngineAway, EngineDied, EngineFailed, ReplyStream, VersionNotLoaded
from data.base_models.tokenizer import ChatTokenizer
from data.errors import BadSetting
from data.records import BaseModel

__all__ = ["Engine", "EngineAway", "EngineDied", "EngineFailed", "ReplyStream", "VersionNotLoaded", "engine_name", "make_engine"]


def engine_name(setting: Literal["auto", "openvino", "transformers", "vllm"], base: BaseModel) -> str:
    """The engine that ENGINE means for this model: `auto` is transformers on a GPU, else OpenVINO where it can read it, else transformers."""
    from chat_app.engines.gguf_merge import ARCHITECTURES

    if setting != "auto":
        return setting
    return "openvino" if base.gguf and base.architecture in ARCHITECTURES and not torch_has_gpu() else "transformers"


def torch_has_gpu() -> bool:
    """Whether the installed torch would compute on a GPU of NVIDIA's; asks the driver, since importing torch takes seconds and a quarter of a gigabyte."""
    torch = find_spec("torch")
    if torch is None or not torch.origin or not (Path(torch.origin).parent / "lib" / "libtorch_cuda.so").exists():
        return False                              # a build for CPUs: on a card's machine too it would be the slower engine
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def make_engine(name: Literal["auto", "openvino", "transformers", "vllm"], base: BaseModel, cache_dir: Path, *, vllm_url: str | None = None,
                vllm_api_key: str | None = None, vllm_adapters_dir: str | None = None) -> Engine:
    """The engine called `name` (see `engine_name`), with no version loaded yet. Imports its library, which takes seconds.

    Raises: BadSetting: `vllm` without a URL.
    """
    eos_ids = ChatTokenizer(base.folder).eos_ids
    if engine_name(name, base) == "openvino":
        from chat_app.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(base, cache_dir, eos_ids)
    if name == "vllm":
        if not (vllm_url or "").startswith(("http://", "https://")):
            raise BadSetting(f"ENGINE=vllm needs the server's address and VLLM_URL is {vllm_url!r}; set it to one like http://127.0.0.1:8000.")
        from chat_app.engines.vllm import VllmEngine

        return VllmEngine(base, eos_ids, vllm_url, vllm_api_key, vllm_adapters_dir)
    from chat_app.engines.transformers import TransformersEngine

    return TransformersEngine(base, eos_ids)
