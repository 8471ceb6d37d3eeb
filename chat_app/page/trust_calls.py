"""Server functions for consent, and for what a person may ask at any time: all their data, and its end."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from chat_app.page.answers import answering, field


def person_view(service, rater_id: str) -> dict:
    """Whether this person contributes (None: not asked yet), whether what they rate leaves this host, what became of a deletion of everything, and what their second opinions helped make."""
    used = service.store.second_opinions_used(rater_id, service.base.id)
    return {"contributes": service.store.consent(rater_id), "sent_elsewhere": bool(service.settings.sync_url) and not service.settings.learner,
            "erasure": service.belongings.erasure(rater_id), "opinions": used and {"replies": used[0], "version": used[1]}}


def trust_calls(service, identity) -> list[Callable]:
    """Each finds out by itself who asks, and touches only what is theirs."""

    @answering
    def ui_consent(payload: dict, request: gr.Request) -> dict:
        """Their answer, when there is one in it; and how things stand."""
        rater, contributes = identity.rater(request), field(payload, "contributes", bool)
        if contributes is not None:
            service.store.set_consent(rater, contributes)
        return {"person": person_view(service, rater)}

    @answering
    def ui_download(payload: dict, request: gr.Request) -> dict:
        return {"data": service.store.export(identity.rater(request))}

    @answering
    def ui_delete_everything(payload: dict, request: gr.Request) -> dict:
        rater = identity.rater(request)
        service.belongings.delete_everything(rater)
        return {"person": person_view(service, rater)}

    return [ui_consent, ui_download, ui_delete_everything]
