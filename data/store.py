"""`Store`: everything that is remembered, in one SQLite file. Its chapters are chats, ratings, runs, versions, receipts and histories."""

from __future__ import annotations

from data.history import History


class Store(History):
    """Opens or creates `path`; new and old files take the same path through the migrations.

    Safe to use from many threads and from several processes at once.
    """
