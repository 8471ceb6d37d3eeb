"""Settings: one dataclass, read once from the environment and an optional TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import get_type_hints

from data.errors import BadSetting
from data.records import Sampling


def setting(default, *, at_least=None, at_most=None, one_of=None):
    return field(default=default, metadata={"at_least": at_least, "at_most": at_most, "one_of": one_of})


@dataclass(frozen=True)
class Settings:
    """Every setting. The environment variable is the field's name in capitals; the TOML key is the field's name."""

    state_dir: Path = setting(Path(".state"))
    """Where everything that changes lives: `chat.db`, `adapters/`, `models/`, `logs/`."""
    base_model: str = setting("smollm2-135m-instruct")
    """The default's name, a path to a GGUF or a transformers folder, `hf:org/name`, or `hf:org/name:file.gguf`."""
    engine: str = setting("auto", one_of=("auto", "openvino", "transformers", "vllm"))
    """What samples replies. `auto`: transformers on an NVIDIA GPU, if the installed torch can use it; on a CPU OpenVINO where it can read the model, else transformers. `vllm`: a vLLM server, which must serve the same base model."""
    vllm_url: str | None = setting(None)
    """Address of the vLLM server for `ENGINE=vllm`, e.g. `http://127.0.0.1:8000`; several may stand behind it."""
    vllm_api_key: str | None = setting(None)
    """What that server asks for, when it was started with a key."""
    vllm_adapters_dir: str | None = setting(None)
    """Where that server sees the folder `STATE_DIR/adapters`, when it is not the same path."""
    host: str = setting("127.0.0.1")
    """Address to listen on; `0.0.0.0` for everybody, as a Space needs."""
    port: int = setting(7860, at_least=0, at_most=65535)
    """Port to listen on; 0 takes a free one."""
    maintainer_password: str | None = setting(None)
    """Password of the maintainer's sign-in; a changed one signs everybody out. Unset: a one-time link is printed on the terminal at start."""
    cookie_secret: str | None = setting(None)
    """Signs the cookies by which people are known again. Unset: made once and kept in the state folder."""
    system_prompt: str = setting("")
    """First message of every dialogue; other tasks have their own. Empty: what the model's own chat template puts there."""
    temperature: float = setting(0.8, at_least=0, at_most=5)
    """Divides the logits before sampling; 0 always takes the likeliest token (and then ratings teach little)."""
    top_p: float = setting(0.95, at_least=0.01, at_most=1)
    """Nucleus sampling: the smallest set of tokens that reaches this probability; 1 turns it off."""
    top_k: int = setting(50, at_least=0, at_most=1_000_000)
    """Only the k likeliest tokens; 0 turns it off."""
    max_new_tokens: int = setting(320, at_least=1, at_most=8192)
    """A reply ends after this many tokens at the latest."""
    max_message_chars: int = setting(20_000, at_least=1, at_most=10_000_000)
    """A longer message is refused with a clear sentence before it reaches the model."""
    max_streams: int = setting(32, at_least=1, at_most=10_000)
    """Replies written at once; later ones wait in line and are shown their place."""
    max_waiting: int = setting(96, at_least=0, at_most=100_000)
    """Replies that wait in line at most; the next person is told to try again. One person has an eighth of all places, those in line included."""
    second_opinion_share: float = setting(0.05, at_least=0, at_most=1)
    """Share of replies that another person is asked to rate too, both having agreed, with personal data masked; 0 turns it off."""
    compare_share: float = setting(0.05, at_least=0, at_most=1)
    """On this share of turns people who contribute are offered another reply to compare; 0 never. Chosen are those where a small model of the ratings, made by the last run, is least sure, or, while the ratings do not predict each other, where the language model was least sure of its words (lowest mean log-prob per token), each among the last 300; and only while nobody else is being answered."""
    train_every_ratings: int = setting(32, at_least=0, at_most=1_000_000_000)
    """A run starts by itself after this many fresh ratings; 0 turns it off."""
    train_every_hours: float = setting(24.0, at_least=0, at_most=87_600)
    """... or this long after the last run when there is at least one fresh rating; 0 turns it off."""
    train_when_idle: bool = setting(True)
    """On Linux a run computes only while replies leave a core free, so no reply waits for it; beside a chat that keeps all cores busy it stands still. `false` gives it about a tenth of them."""
    learner: bool = setting(True)
    """Whether `app.py` starts the learner process beside the server; off when `python -m learner --watch` runs elsewhere."""
    keep_versions: int = setting(50, at_least=2, at_most=1_000_000)
    """Of so many versions of a base model the files are kept (10 MB each with the default model); a run removes those of older ones, but never of the live version nor of what a rollback goes to. What each learned from stays to be read, and of a reply's receipts the first and the newest."""
    learning_rate: float = setting(5e-4, at_least=0, at_most=1)
    """AdamW's, for the LoRA weights, where all rated replies teach; the small step of `REFINE` has a rate of its own."""
    epochs: int = setting(2, at_least=1, at_most=100)
    """Passes over the rated replies, where all of them teach; with few of them more, up to 8."""
    batch_size: int = setting(8, at_least=1, at_most=4096)
    """Rated replies in one optimizer step."""
    lora_rank: int = setting(8, at_least=1, at_most=256)
    """Rank of the adapter's matrices."""
    kl_coefficient: float = setting(0.1, at_least=0, at_most=1000)
    """How strongly the policy is held near the base model (beta), where all rated replies teach; `REFINE` has bounds instead."""
    baseline_margin: float = setting(0.15, at_least=0, at_most=1)
    """The baseline is set this far below the mean reward, where all rated replies teach, which keeps off-policy updates stable (delta)."""
    sync_url: str = setting("")
    """Where several hosts meet: `s3://bucket/folder`, `hf://buckets/name/bucket/folder`, `file:///folder` or any other URL that fsspec knows. Hosts with `LEARNER=false` send what people rate there and follow the versions that the one with a learner publishes. Empty: this host alone."""
    sync_seconds: float = setting(30.0, at_least=1, at_most=86_400)
    """How often a host sends and looks there: a rating, a deletion or a version has reached the next host after two of these, both being up."""
    refine: bool = setting(True)
    """A run on 32 rated replies or more learns what small models of the ratings prefer, as far as fresh replies allow, where these find what people go by (of many ratings without any direction they often think so, and then only the bounds hold); else, and when this is off, from the rated replies as they were rated. From 128 on a fifth of the ratings only judges the candidate, as soon as a fifth suffices for it; until then it trains too."""
    seed: int = setting(0, at_least=0, at_most=2**31 - 1)
    """Seed of a training run. On one machine the same ratings and seed make the same steps; how far `REFINE` and the gate let them go may differ a little, since fresh replies are sampled by several threads."""

    @property
    def database(self) -> Path:
        return self.state_dir / "chat.db"

    @property
    def adapters_dir(self) -> Path:
        return self.state_dir / "adapters"

    @property
    def models_dir(self) -> Path:
        return self.state_dir / "models"

    @property
    def merged_dir(self) -> Path:
        """Versions merged for serving: the learner's gate leaves there what the chat server loads next."""
        return self.models_dir / "merged"

    @property
    def logs_dir(self) -> Path:
        return self.state_dir / "logs"

    @property
    def sampling(self) -> Sampling:
        """How replies are sampled; each reply gets a seed of its own."""
        return Sampling(self.temperature, self.top_p, self.top_k, self.max_new_tokens)


def load_settings(environment: Mapping[str, str] = os.environ, file: Path | None = None) -> Settings:
    """Settings from the environment over those from a TOML file (`SETTINGS_FILE`, else `settings.toml` if there is one) over the defaults.

    Raises: BadSetting: an unknown key in the file, a variable that is nearly a setting's name, or a value that cannot be used; the sentence names it.
    """
    named = environment.get("SETTINGS_FILE")
    path = file or Path(named or "settings.toml")
    values: dict[str, object] = {}
    if path.is_file():
        values = _from_toml(path)
    elif file or named:
        raise BadSetting(f"The settings file {path} does not exist; create it or unset SETTINGS_FILE.")
    if environment.get("SPACE_ID"):
        values.setdefault("host", "0.0.0.0")                  # inside a Space only its proxy can reach us
    for name in environment:
        if name not in _VARIABLES and (meant := get_close_matches(name, [known for known in _VARIABLES if "_" in known], 1, NEARLY)):
            raise BadSetting(f"{name} is no setting; {meant[0]} is. Rename the variable, or unset it.")
    for name in _NAMES:
        if environment.get(name.upper(), "") != "":          # an empty variable means "not set", as in most hosts' forms
            values[name] = environment[name.upper()]
    for name in _NAMES:
        if values.get(name) == "" and _TYPES[name] == str | None:       # so does an empty value in the file: nobody could give an empty password
            del values[name]
    return Settings(**{name: _convert(name, value) for name, value in values.items()})


_NAMES = [f.name for f in fields(Settings)]
_VARIABLES = [*map(str.upper, _NAMES), "SETTINGS_FILE"]
NEARLY = 0.94
"""How like a setting's name an unknown variable of several words must be, to be taken for a slip: other programs' names are in the environment too."""
_TYPES = get_type_hints(Settings)


def _from_toml(path: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"The settings file {path} is not valid TOML ({error}); mend that line and start again.") from error
    for key in values:
        if key not in _NAMES:
            raise BadSetting(f"{path} has the unknown setting {key!r}; the known ones are {', '.join(_NAMES)}.")
    return values


def _convert(name: str, value: object) -> object:
    """`value` as the field's type, within the field's bounds."""
    kind, limits = _TYPES[name], Settings.__dataclass_fields__[name].metadata

    def bad(wanted: str) -> BadSetting:
        shown = "that value" if name in ("maintainer_password", "cookie_secret", "vllm_api_key") else repr(value)
        return BadSetting(f"{name.upper()} is {shown}, which cannot be used; it must be {wanted}.")

    if kind is bool:
        words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
        if str(value).lower() not in words:
            raise bad("true or false")
        return words[str(value).lower()]
    if kind is Path:
        return Path(str(value)).expanduser()
    if kind in (int, float):
        try:
            number = kind(str(value))
        except ValueError:
            raise bad("a whole number" if kind is int else "a number") from None
        low, high = limits["at_least"], limits["at_most"]
        if not low <= number <= high:
            raise bad(f"from {low} to {high}")
        return number
    if limits["one_of"] and value not in limits["one_of"]:
        raise bad(f"one of {', '.join(limits['one_of'])}")
    return str(value)
