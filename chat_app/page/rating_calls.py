"""Server functions of the chat page about replies: rate one, say why, correct it, compare two, and see what that did."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from chat_app.page.answers import answering, field
from chat_app.page.views import comparison_view, reasons_view, then_and_now_view
from chat_app.receipts import receipt_view, version_view
from data.errors import BadRating, UnknownVersion
from data.sentences import said


def rating_calls(service, identity) -> list[Callable]:
    """Each finds out by itself who asks, and touches only what is theirs."""

    @answering
    def ui_rate(payload: dict, request: gr.Request) -> dict:
        value = field(payload, "value", int)
        if value is None:
            raise BadRating(said("rating_no_number"))
        return {"rating": service.rate(identity.rater(request), field(payload, "reply") or "", field(payload, "kind") or "", value)}

    @answering
    def ui_reasons(payload: dict, request: gr.Request) -> dict:
        said = service.store.add_reasons(field(payload, "reply") or "", identity.rater(request), field(payload, "tags", list) or [],
                                         field(payload, "comment") or "")
        return {"reasons": reasons_view(said)}

    @answering
    def ui_correct(payload: dict, request: gr.Request) -> dict:
        return {"correction": service.store.add_correction(field(payload, "reply") or "", identity.rater(request), field(payload, "text") or "")}

    @answering
    def ui_compare(payload: dict, request: gr.Request) -> dict:
        said = service.compare(identity.rater(request), *(field(payload, name) or "" for name in ("first", "second", "preferred", "asked_by")))
        return {"comparison": said and comparison_view(said)}

    @answering
    def ui_receipt(payload: dict, request: gr.Request) -> dict:
        rater, reply = identity.rater(request), field(payload, "reply") or ""
        return {"receipt": receipt_view(service.store, rater, reply), "beside": then_and_now_view(service.retelling.look(rater, reply))}

    @answering
    def ui_say_again(payload: dict, request: gr.Request) -> dict:
        """The same prompt for the version of now: `begin` asks it, without that one only looks how far it is."""
        rater, reply = identity.rater(request), field(payload, "reply") or ""
        return {"beside": then_and_now_view(service.retelling.ask(rater, reply) if field(payload, "begin", bool) else service.retelling.look(rater, reply))}

    @answering
    def ui_version(payload: dict, request: gr.Request) -> dict:
        number = field(payload, "version", int)
        if number is None:
            raise UnknownVersion(said("version_not_named"))
        return {"about": version_view(service.store, number)}

    return [ui_rate, ui_reasons, ui_correct, ui_compare, ui_receipt, ui_say_again, ui_version]
