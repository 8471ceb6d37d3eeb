"""The maintainer's page: ratings, training, versions. Every server function checks that a maintainer asks."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from chat_app.page.answers import answering, field
from chat_app.page.scripted_html import read, scripted_html
from chat_app.page.strings import catalogue
from data.errors import UnknownVersion
from data.sentences import said

SCRIPTS = ("dom.js", "words.js", "theme.js", "versions.js", "training.js", "maintainer.js")


def build_maintainer_page(identity, maintenance, *, password: bool) -> None:
    """Add the maintainer's page to the Blocks that is being built; `password`: whether one is set, else a link is printed."""
    scripted_html(read(*SCRIPTS), server_functions=maintainer_calls(identity, maintenance), strings=catalogue(),
                  password=password, elem_id="maintainer", elem_classes=["page"])


def maintainer_calls(identity, maintenance) -> list[Callable]:
    """The server functions of the page. Gradio serves them to anybody who knows the address, so each one checks."""

    @answering
    def ui_overview(payload: dict, request: gr.Request) -> dict:
        identity.require_maintainer(request)
        return {"overview": maintenance.overview()}

    @answering
    def ui_train(payload: dict, request: gr.Request) -> dict:
        identity.require_maintainer(request)
        return {"said": maintenance.train_now()}

    @answering
    def ui_stop_training(payload: dict, request: gr.Request) -> dict:
        identity.require_maintainer(request)
        maintenance.stop_training()
        return {}

    @answering
    def ui_make_live(payload: dict, request: gr.Request) -> dict:
        identity.require_maintainer(request)
        version = field(payload, "version", int)
        if version is None:
            raise UnknownVersion(said("live_not_named"))
        maintenance.make_live(version)
        return {"live": version}

    @answering
    def ui_roll_back(payload: dict, request: gr.Request) -> dict:
        identity.require_maintainer(request)
        return {"live": maintenance.roll_back()}

    return [ui_overview, ui_train, ui_stop_training, ui_make_live, ui_roll_back]
