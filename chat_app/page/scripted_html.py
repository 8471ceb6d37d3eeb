"""A part of a page that is drawn by our own script: static markup, server functions, named events."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import gradio as gr

FOLDER = Path(__file__).parent


@cache
def read(*names: str) -> str:
    """The files `names` beside this one, one after the other."""
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)


class ScriptedHTML(gr.HTML):
    """`gr.HTML` whose markup holds no data; `js_on_load` builds the page from what server functions return.

    Markup and script are constants, because Gradio evaluates templates as JavaScript: data in them would run.
    """

    def __init__(self, value=None, **options):
        # Gradio makes the component anew from its config after an update, so every option must be accepted back.
        super().__init__(value=value, **{"html_template": "<div></div>", "css_template": "", "apply_default_css": False, **options})

    def api_info(self) -> dict:
        return {"type": "object"}
