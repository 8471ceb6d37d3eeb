"""Server functions for second opinions: somebody else's exchange to rate, or not now. The rating itself is `ui_rate`."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from chat_app.page.answers import answering, field
from chat_app.page.views import opinion_view


def opinion_calls(service, identity) -> list[Callable]:
    """Each finds out by itself who asks, and shows them only what is offered to them."""

    @answering
    def ui_second_opinion(payload: dict, request: gr.Request) -> dict:
        return {"opinion": opinion_view(service.second_opinion(identity.rater(request)))}

    @answering
    def ui_not_now(payload: dict, request: gr.Request) -> dict:
        service.store.decline_second_opinion(identity.rater(request), field(payload, "reply") or "")
        return {}

    return [ui_second_opinion, ui_not_now]
