"""Serving engines: token ids in, token ids out, several adapter versions side by side.

Each engine imports its own heavy library only when it is chosen: with OpenVINO the chat process has no torch in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from chat_app.engines.protocol import Engine, EngineFailed, ReplyStream, VersionNotLoaded
from data.records import BaseModel
from data.tokenizer import ChatTokenizer

__all__ = ["Engine", "EngineFailed", "ReplyStream", "VersionNotLoaded", "make_engine"]


def make_engine(name: Literal["auto", "openvino", "transformers"], base: BaseModel, cache_dir: Path) -> Engine:
    """The engine called `name`, with no version loaded yet.

    `auto` is OpenVINO where it can read the model, else transformers.
    """
    from chat_app.engines.gguf import ARCHITECTURES

    eos_ids = ChatTokenizer(base.folder).eos_ids
    if name == "auto":
        name = "openvino" if base.gguf and base.architecture in ARCHITECTURES else "transformers"
    if name == "openvino":
        from chat_app.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(base, cache_dir, eos_ids)
    from chat_app.engines.transformers import TransformersEngine

    return TransformersEngine(base, eos_ids)
