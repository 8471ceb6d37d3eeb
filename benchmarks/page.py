"""What our reports have in common: one self-contained page, tables and plots inside it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend comes first)

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222}table{border-collapse:collapse;font-size:12px}
td,th{padding:2px 7px;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}td:first-child,th:first-child{text-align:left}.wide{overflow-x:auto}svg{max-width:100%;height:auto}
blockquote{border-left:3px solid #ccc;margin:.5em 0;padding-left:1em;white-space:pre-wrap}"""


def whole_page(title: str, parts: Sequence[str]) -> str:
    """Args: parts: HTML."""
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>{"".join(parts)}</html>'


def table(rows: Sequence[Mapping], columns: Sequence[str]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(shown(row.get(column)))}</td>" for column in columns) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{"".join(f"<th>{column}</th>" for column in columns)}</tr>{body}</table></div>'


def shown(value: object) -> str:
    """Three digits of a number, nothing of None."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:.0f}" if isinstance(value, float) else str(value)


def as_svg(figure) -> str:
    """A matplotlib figure as an SVG element; closes it."""
    target = io.StringIO()
    figure.tight_layout()
    with matplotlib.rc_context({"svg.hashsalt": "rated-chat"}):      # the same figures give the same bytes
        figure.savefig(target, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = target.getvalue()
    return text[text.index("<svg"):]
