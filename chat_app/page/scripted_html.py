"""A part of a page that is drawn by our own script: static markup, server functions, named events."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import gradio as gr


@cache
def read(*names: str) -> str:
    """The files `names` beside this one, one after the other."""
    return "\n".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names)


def scripted_html(script: str, **options) -> gr.HTML:
    """A `gr.HTML` whose markup holds no data; `script` builds the page from what server functions return.

    Markup is a constant, because Gradio evaluates templates as JavaScript: data in them would run. A function and not
    a subclass, because Gradio writes a .pyi file beside every module that defines one.
    """
    return gr.HTML(html_template="<div></div>", css_template="", js_on_load=script, apply_default_css=False, **options)
