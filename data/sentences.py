"""What the learner and errors tell people, as codes with values: stored that way, and said in whichever language is asked for.

    said("gate_refused", problem=said("moved", kl=2.5, limit=2.0))   is stored; `sentence` of it is read

The sentences are in `sentences.json`, English and Chinese, because both sides say them: the command line here, the pages
through their catalogue. A placeholder may carry a format, one of `.0%`, `.2f`, `+.2f`, `+.3f`, `g` and `,`, which pages know too.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

Said = dict[str, object]
"""`{"code": ..., name: value, ...}`, JSON-able; a value may be such again."""


def said(code: str, **values: object) -> Said:
    """Raises: KeyError: there is no such sentence."""
    sentences()["en"][code]
    return {"code": code, **values}


def sentence(of: Said, language: str = "en") -> str:
    words = sentences()[language][of["code"]]
    if isinstance(words, dict):
        words = words["one" if of["n"] == 1 else "many"]
    return words.format(**{name: sentence(value, language) if isinstance(value, dict) else value for name, value in of.items()})


def reasoned(of: Said) -> dict:
    """What a report says of its reason: the sentence for scripts and terminals, and what it was made of for pages."""
    return {"reason": sentence(of), "said": of}


@cache
def sentences() -> dict[str, dict]:
    """Language code -> code -> sentence, or its forms for `n`: `one` and `many`."""
    return json.loads(Path(__file__).with_name("sentences.json").read_text(encoding="utf-8"))
