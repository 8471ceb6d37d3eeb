"""Both pages as one Gradio app, and the arguments it is launched with."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from chat_app.api import add_api
from chat_app.bounds import fetch_nothing
from chat_app.page.chat_page import build_chat_page
from chat_app.page.maintainer_page import build_maintainer_page
from chat_app.page.scripted_html import read
from chat_app.page.strings import catalogue
from data.settings import Settings

STYLES = ("base.css", "chat.css", "panels.css", "compare.css", "drawer.css", "menu.css", "maintainer.css")
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "PingFang SC", "Hiragino Sans GB",
         "Noto Sans CJK SC", "Noto Sans SC", "Microsoft YaHei", "sans-serif"]
MONO_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "Noto Sans Mono CJK SC", "monospace"]

LEAST_CALLS, SPARE_CALLS = 200, 64
"""Calls that Gradio works on at once: so many in any case, and so many beside the replies, for ratings and looks."""


def build_pages(service, identity, maintenance, settings) -> gr.Blocks:
    """The chat and the functions scripts may call at `/`, the maintainer's page at `/maintainer`."""
    fetch_nothing()
    with gr.Blocks(title=catalogue()["en"]["product"], fill_width=True, analytics_enabled=False) as pages:
        build_chat_page(service, identity)
        add_api(service, identity)
    with pages.route("Maintainer", "/maintainer", show_in_navbar=False):
        build_maintainer_page(identity, maintenance, password=bool(settings.maintainer_password))
    return pages


def open_queue(pages: gr.Blocks, max_size: int) -> None:
    """Take calls, `max_size` waiting at most. Gradio looks for one every millisecond, a tenth of a core on an idle server; here every hundredth of a second."""
    pages.queue(max_size=max_size)
    pages._queue.sleep_when_free, pages._queue.progress_update_sleep_when_free = 0.01, 0.1


def calls_at_once(settings: Settings) -> int:
    """Every reply may have two that last as long as it does: the script's that asked for it, and the stream of a page that shows it."""
    return max(LEAST_CALLS, 2 * (settings.max_streams + settings.max_waiting) + SPARE_CALLS)


def launch_arguments(middleware: list, settings: Settings) -> dict:
    """What `Blocks.launch` needs for these pages, beside host and port; `middleware` keeps out what is too large, sets the cookies and signs people in."""
    return {
        "app_kwargs": {"middleware": middleware},
        "css": read(*STYLES),
        "theme": theme(),
        "favicon_path": str(Path(__file__).with_name("icon.svg")),
        "footer_links": [],
        "max_file_size": "1kb",     # nobody has a file to send, and chat_app/bounds.py lets none in
        "max_threads": calls_at_once(settings),
        "run_history": False,       # on by default; it would keep prompts and replies in the browser's storage
        "ssr_mode": False,
        "show_error": True,
    }


def theme() -> gr.themes.Base:
    """Gradio's own parts in our colours, with the system's fonts: nothing is fetched from another server."""
    return gr.themes.Base(font=FONTS, font_mono=MONO_FONTS).set(
        body_background_fill="#faf9f7", body_background_fill_dark="#151413",
        body_text_color="#1f1d1a", body_text_color_dark="#f1efec")
