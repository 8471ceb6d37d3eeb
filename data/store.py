"""`Store`: everything that is remembered, in one SQLite file. Its chapters are chats, ratings, runs and versions."""

from __future__ import annotations

from data.versions import Versions


class Store(Versions):
    """Opens or creates `path`; new and old files take the same path through the migrations.

    Safe to use from many threads and from several processes at once.
    """
