"""Text as it can be stored: what comes over HTTP or out of JSON need not be."""

from __future__ import annotations


def storable(value):
    """`value`, when it is a text with "?" in place of every half of a surrogate pair: that is no character, so neither a database nor a model takes it."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
