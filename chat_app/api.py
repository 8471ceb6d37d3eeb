"""The public interface for scripts, usable with gradio_client: /send, /rate, /status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from chat_app.identity import Identity
from chat_app.service import ChatService
from data.errors import ChatError


LOOK_SECONDS = 1 / 20


def add_api(service: ChatService, identity: Identity) -> None:
    """Register the three endpoints; call it inside the Blocks context."""

    async def send(message: str, conversation_id: str | None = None, task: str | None = None, request: gr.Request = None) -> AsyncIterator[dict[str, Any]]:
        """Stream a reply; the last value is whole. Values: {conversation_id, reply_id, text, version}.

        `task`: what a new conversation is for: dialogue (the default), writing, translation or check.
        """
        try:
            job = await asyncio.to_thread(service.send, identity.rater(request), conversation_id or None, message, task=task or None)
            seen = None
            while not job.done:                   # looks, and holds no thread: many scripts may listen at once
                if job.text != seen:
                    seen = job.text
                    yield _sent(job)
                await asyncio.sleep(LOOK_SECONDS)
            if job.error:
                raise gr.Error(job.error, print_exception=False)
            yield _sent(job)
        except ChatError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def rate(reply_id: str, kind: str, value: int, request: gr.Request) -> dict[str, int]:
        """Rate a reply: kind `thumb` (1, -1) or `stars` (1..5); 0 takes it back. Returns that reply's current ratings."""
        try:
            return service.rate(identity.rater(request), reply_id, kind, value)
        except ChatError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def status() -> dict[str, Any]:
        """{version, base_model, engine, fresh_ratings, run}."""
        return service.status()

    gr.api(send, api_name="send", concurrency_limit=service.settings.max_streams + service.settings.max_waiting)
    gr.api(rate, api_name="rate", concurrency_limit=8)
    gr.api(status, api_name="status", concurrency_limit=8)


def _sent(job) -> dict[str, Any]:
    return {"conversation_id": job.conversation_id, "reply_id": job.reply_id, "text": job.text, "version": job.version}
