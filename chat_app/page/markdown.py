"""Markdown of replies as HTML that is safe to put into a page: no script, no style, nothing fetched from elsewhere."""

from __future__ import annotations

from functools import lru_cache
from html import escape

import nh3
from markdown_it import MarkdownIt

TAGS = "p br hr h3 h4 h5 h6 strong em s code pre blockquote ul ol li table thead tbody tr th td a"
HEADING_OFFSET = 2                     # the page has its own h1 and h2


def _image_as_link(renderer, tokens, index, options, env) -> str:
    """An image would be fetched from its server and tell it who reads; a link is only followed when clicked."""
    image = tokens[index]
    return f'<a href="{escape(str(image.attrs["src"]))}">{escape(image.content or "image")}</a>'


_markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
_markdown.add_render_rule("image", _image_as_link)
_cleaner = nh3.Cleaner(
    tags=set(TAGS.split()),
    attributes={"a": {"href"}, "ol": {"start"}},
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener noreferrer nofollow",
    # A code block that scrolls must be reachable by keyboard.
    set_tag_attribute_values={"a": {"target": "_blank"}, "pre": {"tabindex": "0"}},
)


def partial_to_safe_html(text: str) -> str:
    """`text` rendered as markdown and sanitised; raw HTML in it is shown as text. Of a text that still grows none is asked for twice."""
    tokens = _markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + HEADING_OFFSET)}"
    return _cleaner.clean(_markdown.renderer.render(tokens, _markdown.options, {}))


@lru_cache(maxsize=2048)
def to_safe_html(text: str) -> str:
    """The same, kept for the next one who asks."""
    return partial_to_safe_html(text)
