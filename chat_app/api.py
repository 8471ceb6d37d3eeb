"""The public interface for scripts, usable with gradio_client: /send, /regenerate, /rate, /compare, /status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from chat_app.identity import Identity
from chat_app.replies import ReplyJob
from chat_app.service import ChatService
from data.errors import ChatError
from data.texts.characters import storable

LOOK_SECONDS = 1 / 20
SPARE = 8
"""Calls let in beyond the places there are: who is one too many hears "busy, try again" from the service at once, and does not wait in Gradio's queue for a place."""


def add_api(service: ChatService, identity: Identity) -> None:
    """Register the endpoints; call it inside the Blocks context."""

    async def send(message: str, conversation_id: str | None = None, task: str | None = None, contribute: bool = True,
                   request: gr.Request = None) -> AsyncIterator[dict[str, Any]]:
        """Stream a reply; the last value is whole. Values: {conversation_id, reply_id, text, version}.

        While it waits in line, `place` too: how many turns away.
        And `dropped_turns`, where the conversation is longer than the model reads at once: how many of its oldest turns were left out.
        `task`: what a new conversation is for: dialogue (the default), writing, translation or check.
        `contribute`: whether what is said of the reply may train; False: nothing of it is kept for training.
        """
        async for part in _stream(lambda: service.send(identity.rater(request), storable(conversation_id) or None, message, task=task or None, unasked=contribute is True)):
            yield part

    async def regenerate(conversation_id: str, contribute: bool = True, request: gr.Request = None) -> AsyncIterator[dict[str, Any]]:
        """Stream another attempt at the last message, as /send does, with its `contribute`; earlier attempts keep their ratings."""
        async for part in _stream(lambda: service.regenerate(identity.rater(request), storable(conversation_id), unasked=contribute is True)):
            yield part

    def rate(reply_id: str, kind: str, value: int, request: gr.Request) -> dict[str, int]:
        """Rate a reply: kind `thumb` (1, -1) or `stars` (1..5); 0 takes it back. Returns that reply's current ratings."""
        with _told():
            return service.rate(identity.rater(request), storable(reply_id), kind, value)

    def compare(first_id: str, second_id: str, preferred: str, request: gr.Request) -> dict[str, str]:
        """Say which of two attempts at one message is better: `first`, `second`, `same`, or `none` to take it back. Returns {preferred}."""
        with _told():
            return {"preferred": preferred if service.compare(identity.rater(request), storable(first_id), storable(second_id), preferred) else "none"}

    def status() -> dict[str, Any]:
        """{version, loading, base_model, engine, fresh_ratings, run}; `loading`: the version that is about to answer, null when none is."""
        return service.status()

    streams = service.settings.max_streams + service.settings.max_waiting + SPARE
    gr.api(send, api_name="send", concurrency_limit=streams)
    gr.api(regenerate, api_name="regenerate", concurrency_limit=streams)
    gr.api(rate, api_name="rate", concurrency_limit=8)
    gr.api(compare, api_name="compare", concurrency_limit=8)
    gr.api(status, api_name="status", concurrency_limit=8)


async def _stream(start: Callable[[], ReplyJob]) -> AsyncIterator[dict[str, Any]]:
    with _told():
        job = await asyncio.to_thread(start)
        seen = None
        while not job.done:                   # looks, and holds no thread: many scripts may listen at once
            if (job.text, job.place) != seen:
                seen = job.text, job.place
                yield _sent(job)
            await asyncio.sleep(LOOK_SECONDS)
        if job.error:
            raise job.error
        yield _sent(job)


@contextmanager
def _told() -> Iterator[None]:
    """A known error's sentence reaches the script, in the only kind of error that Gradio passes on."""
    try:
        yield
    except ChatError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _sent(job: ReplyJob) -> dict[str, Any]:
    sent = {"conversation_id": job.conversation_id, "reply_id": job.reply_id, "text": job.text, "version": job.version}
    more = {"place": job.place, "dropped_turns": job.dropped_turns}
    return {**sent, **{name: value for name, value in more.items() if value}}
