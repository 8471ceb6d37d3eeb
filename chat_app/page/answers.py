"""How a server function answers the page: always a dict with `ok`, because the browser is never told of an exception."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from data.errors import ChatError
from data.texts.characters import storable

log = logging.getLogger(__name__)


def answering(function: Callable[..., dict]) -> Callable[..., dict]:
    """`{"ok": True, ...what it returned}`, or `{"ok": False, "kind": ..., "error": sentence, "said": its code}`.

    A known error's sentence is for the person. Any other error is logged and the person is told so, in no detail.
    """

    @functools.wraps(function)
    def answer(*args, **kwargs) -> dict:
        try:
            return {"ok": True, **function(*args, **kwargs)}
        except ChatError as error:
            return {"ok": False, **error.told()}
        except Exception:
            log.exception("%s failed", function.__name__)
            return {"ok": False, "kind": "Unexpected",
                    "error": "Something went wrong on the server; it is written in its log. Please try again."}

    return answer


def field(payload: object, name: str, kind: type = str):
    """`payload[name]` when it is of that kind (a number or a text: one that a database holds), else None: whoever speaks HTTP can send anything."""
    value = payload.get(name) if isinstance(payload, dict) else None
    if not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or abs(value) >= 2**63)):
        return None
    return [storable(one) for one in value] if kind is list else storable(value)
