"""Server functions of the drawer with a person's own conversations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import gradio as gr

from chat_app.page.answers import answering, field

PAGE = 50
"""How many conversations are listed unless a page asks for more ..."""
MOST = 10_000
"""... and at most."""


def history_calls(service, identity) -> list[Callable]:
    """Each finds out by itself who asks, and touches only what is theirs."""
    belongings = service.belongings

    @answering
    def ui_history(payload: dict, request: gr.Request) -> dict:
        """The last used conversations, `limit` at most, and whether there are `more`."""
        limit = min(max(1, field(payload, "limit", int) or PAGE), MOST)
        entries, more = belongings.history(identity.rater(request), field(payload, "search") or "", limit)
        return {"entries": [asdict(entry) for entry in entries], "more": more}

    @answering
    def ui_rename(payload: dict, request: gr.Request) -> dict:
        return {"title": belongings.rename(identity.rater(request), field(payload, "conversation") or "", field(payload, "title") or "")}

    @answering
    def ui_delete(payload: dict, request: gr.Request) -> dict:
        return {"ratings": belongings.delete(identity.rater(request), field(payload, "conversation") or "")}

    return [ui_history, ui_rename, ui_delete]
