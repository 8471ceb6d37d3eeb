"""What a vLLM server is asked over HTTP: its models, to load or unload an adapter, to complete token ids.

Everything used here is in vLLM's OpenAI-compatible server from 0.10 to 0.32. Ids come back as `token_id:N` in place of
texts, each beside its log-prob. Those are raw by default (`--logprobs-mode raw_logprobs`): full vocabulary, temperature 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx

from data.records import Sampling

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 90.0
"""A server that says nothing for so long, before a reply's first token or after, has failed it."""
GATEWAY_ERRORS = (429, 502, 503, 504)
"""What a balancer answers when no server behind it can be reached."""
ONCE = {"Connection": "close"}
"""A balancer that deals out connections gives the next request to the next server."""


class Served(NamedTuple):
    """What a server lists."""

    base: str
    """The name of the base model."""
    longest: int | None
    """How many tokens it reads at most."""
    adapters: dict[str, str]
    """Where it read each adapter from, by name."""


class ServerAway(Exception):
    """Nobody answers, or the connection broke; the words go on a sentence that begins with the server."""


class ServerSilent(ServerAway):
    """It took the request and says nothing."""


class UnknownModel(Exception):
    """The server has no model of that name (any more)."""


class Refused(Exception):
    """The server answered, and says no."""


class VllmServer:
    """One address. Every method belongs to one event loop."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/").removesuffix("/v1"),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    async def models(self) -> Served:
        """Raises: ServerAway; Refused."""
        answer = await self._ask("GET", "/v1/models")
        try:
            models = answer.json()["data"]
            base = [model for model in models if not model.get("parent")][0]       # the others are adapters
            return Served(base["id"], base.get("max_model_len"), {model["id"]: str(model.get("root")) for model in models if model.get("parent")})
        except (ValueError, LookupError, TypeError) as error:
            raise Refused("its list of models is not one of vLLM's") from error

    async def load(self, name: str, path: str) -> None:
        """Have `name` served from a peft folder that the server can read; nothing to do when it is already.

        Raises: ServerAway; UnknownModel: the server loads nothing at run time; Refused: it cannot load this one.
        """
        try:
            await self._ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}, headers=ONCE)
        except Refused as error:
            if "already been" not in str(error):
                raise

    async def unload(self, name: str) -> None:
        """Replies that are being written with it go on. Raises: ServerAway; UnknownModel: it is not loaded there; Refused."""
        await self._ask("POST", "/v1/unload_lora_adapter", {"lora_name": name}, timeout=CONNECT_SECONDS, headers=ONCE)

    async def complete(
        self, model: str, prompt_ids: Sequence[int], sampling: Sampling, room: int, eos_ids: frozenset[int]
    ) -> AsyncIterator[tuple[list[int], list[float], str | None]]:
        """A reply as it is sampled: (ids, nats, finish reason), the reason None until the last.

        Raises: ServerAway; UnknownModel; Refused.
        """
        body = {
            "model": model,
            "prompt": list(prompt_ids),
            "stream": True,
            "logprobs": 0,
            "return_tokens_as_token_ids": True,
            "max_tokens": room,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": sampling.seed,
            "stop_token_ids": sorted(eos_ids),
            "repetition_penalty": 1.0,  # else the model's generation_config.json may bring one of its own
            "min_p": 0.0,
        }
        ended = False
        async with self._answering("POST", "/v1/completions", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                _raise_for(response)
            async for line in response.aiter_lines():
                if not line.startswith("data:") or line.endswith("[DONE]"):
                    continue
                piece = _piece(line[5:])
                ended = ended or piece[2] is not None
                yield piece
        if not ended:
            raise ServerAway("closed the connection in the middle of the reply")

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, path: str, body: dict | None = None, **options) -> httpx.Response:
        async with self._answering(method, path, json=body, **options) as response:
            await response.aread()
            if response.status_code != 200:
                _raise_for(response)
            return response

    @asynccontextmanager
    async def _answering(self, method: str, path: str, **options) -> AsyncIterator[httpx.Response]:
        """The response, its body not read yet; httpx's errors inside become ours."""
        try:
            async with self._client.stream(method, path, **options) as response:
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServerAway("does not answer") from error
        except httpx.TimeoutException as error:
            raise ServerSilent(f"said nothing for {SILENCE_SECONDS:.0f} seconds") from error
        except httpx.TransportError as error:
            raise ServerAway("closed the connection") from error


def _piece(data: str) -> tuple[list[int], list[float], str | None]:
    """One event of a completion. Raises: Refused: it is an error, or cannot be read."""
    try:
        event = json.loads(data)
        if "error" in event:
            raise Refused(_words(event["error"]))
        choice, = event["choices"]
        found = choice.get("logprobs") or {"tokens": [], "token_logprobs": []}
        ids = [int(token.removeprefix("token_id:")) for token in found["tokens"]]
        return ids, [math.nan if value is None else float(value) for value in found["token_logprobs"]], choice.get("finish_reason")
    except (ValueError, LookupError, TypeError) as error:
        raise Refused("its answer is not one of vLLM's") from error


def _raise_for(response: httpx.Response) -> None:
    """Raises: ServerAway; UnknownModel; Refused: by the status of an answer that is not a success."""
    try:
        words = _words(response.json())
    except ValueError:
        words = response.text.strip()[:200]
    if response.status_code in GATEWAY_ERRORS:
        raise ServerAway(f"is not ready ({response.status_code})")
    if response.status_code in (401, 403):
        raise Refused(f"wants another key ({response.status_code}); set VLLM_API_KEY")
    if response.status_code == 404:
        raise UnknownModel(words)
    raise Refused(words or f"answered {response.status_code}")


def _words(body: object) -> str:
    """What an error says, in the form of vLLM's newer servers, its older ones, or FastAPI."""
    if isinstance(body, dict):
        found = body.get("error", body)
        return str(found.get("message") or found.get("detail") or found if isinstance(found, dict) else found)
    return str(body)
