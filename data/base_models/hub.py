"""Models in transformers' own form: from the Hugging Face Hub, and what we take out of such a folder."""

from __future__ import annotations

import json
from pathlib import Path

from data.errors import ModelUnavailable


def fetch_from_hub(source: str) -> Path:
    """The local file or folder of `hf:org/name` or `hf:org/name:file.gguf`, downloaded by huggingface_hub (HF_TOKEN is honoured).

    Raises: ModelUnavailable.
    """
    import httpx
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository, _, file = source.removeprefix("hf:").partition(":")
    try:
        if file:
            return Path(hf_hub_download(repository, file))
        return Path(snapshot_download(repository, allow_patterns=["*.json", "*.safetensors", "*.jinja"]))
    except (OSError, HfHubHTTPError, HFValidationError, httpx.HTTPError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelUnavailable(
            f"Cannot fetch {source} from the Hugging Face Hub: {reason} Check the name and the network "
            "(and HF_TOKEN for a gated model), or set BASE_MODEL to a local path."
        ) from error


def unpack_transformers(origin: Path, folder: Path) -> tuple[str, int, list[Path]]:
    """Write tokenizer.json and tokenizer_config.json into `folder`, taken from the transformers folder `origin`.

    Returns: architecture, context length in tokens, and the files to keep.
    Raises: ModelUnavailable: weights, tokenizer or chat template are missing.
    """
    model = _read(origin, "config.json")
    weights = sorted(origin.glob("*.safetensors"))
    if not weights or not (origin / "tokenizer.json").is_file():
        lacking = "no .safetensors weights" if not weights else "no tokenizer.json"
        raise ModelUnavailable(f"{origin} has {lacking}. Save it once with a current transformers release and start again.")
    config, generation = _read(origin, "tokenizer_config.json"), _read(origin, "generation_config.json")
    tokens = {key: _spelling(config.get(key)) for key in ("bos_token", "eos_token", "unk_token", "pad_token")}
    settings = {**tokens, "chat_template": _chat_template(origin, config)}
    settings["eos_token_ids"] = sorted(_stop_ids(origin, tokens["eos_token"], model, generation))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer.json").write_bytes((origin / "tokenizer.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1, ensure_ascii=False), encoding="utf-8")
    kept = weights + [path for path in sorted(origin.glob("*.json")) + sorted(origin.glob("*.jinja"))]
    return model.get("model_type", "unknown"), int(model.get("max_position_embeddings", 2048)), kept


def _chat_template(origin: Path, config: dict) -> str:
    template = config.get("chat_template")
    if isinstance(template, list):  # several named ones
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    if (origin / "chat_template.jinja").is_file():
        template = (origin / "chat_template.jinja").read_text(encoding="utf-8")
    if not template:
        raise ModelUnavailable(
            f"{origin} has no chat template, so nobody can chat with it. Choose the instruct or chat variant of the model."
        )
    return template


def _stop_ids(origin: Path, eos_token: str | None, *configs: dict) -> set[int]:
    from tokenizers import Tokenizer

    stops: set[int] = set()
    for config in configs:
        named = config.get("eos_token_id")
        stops |= set(named if isinstance(named, list) else [] if named is None else [named])
    known = Tokenizer.from_file(str(origin / "tokenizer.json")).token_to_id(eos_token) if eos_token else None
    return stops if known is None else stops | {known}


def _spelling(token: dict | str | None) -> str | None:
    return token["content"] if isinstance(token, dict) else token


def _read(folder: Path, name: str) -> dict:
    path = folder / name
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ModelUnavailable(f"{path} is not JSON ({error}). It is damaged: fetch the model again.") from error
