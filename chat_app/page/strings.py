"""The one catalogue of what the pages say: `strings.json`, English and Chinese."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path


@cache
def catalogue() -> dict[str, dict]:
    """Language code -> key -> sentence; the browser chooses by its language."""
    return json.loads(Path(__file__).with_name("strings.json").read_text(encoding="utf-8"))
