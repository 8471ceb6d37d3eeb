"""The one catalogue of what the pages say: `strings.json`, English and Chinese, and under `said` the learner's sentences."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from data.sentences import sentences


@cache
def catalogue() -> dict[str, dict]:
    """Language code -> key -> sentence; the browser chooses by its language."""
    words = json.loads(Path(__file__).with_name("strings.json").read_text(encoding="utf-8"))
    return {language: {**of, "said": sentences()[language]} for language, of in words.items()}
