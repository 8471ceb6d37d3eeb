"""`Store`: everything that is remembered, in one SQLite file. Its chapters are chats, ratings, runs, versions, receipts, histories and trust."""

from __future__ import annotations

from data.trust import Trust


class Store(Trust):
    """Opens or creates `path`; new and old files take the same path through the migrations.

    Safe to use from many threads and from several processes at once.
    """
