"""Server functions of the drawer with a person's own conversations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import gradio as gr

from chat_app.page.answers import answering, field


def history_calls(service, identity) -> list[Callable]:
    """Each finds out by itself who asks, and touches only what is theirs."""
    belongings = service.belongings

    @answering
    def ui_history(payload: dict, request: gr.Request) -> dict:
        return {"entries": [asdict(entry) for entry in belongings.history(identity.rater(request), field(payload, "search") or "")]}

    @answering
    def ui_rename(payload: dict, request: gr.Request) -> dict:
        return {"title": belongings.rename(identity.rater(request), field(payload, "conversation") or "", field(payload, "title") or "")}

    @answering
    def ui_delete(payload: dict, request: gr.Request) -> dict:
        return {"ratings": belongings.delete(identity.rater(request), field(payload, "conversation") or "")}

    return [ui_history, ui_rename, ui_delete]
