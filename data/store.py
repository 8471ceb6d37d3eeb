"""`Store`: everything that is remembered, in one SQLite file. Its chapters are chats, ratings, runs, versions and receipts."""

from __future__ import annotations

from data.receipts import Receipts


class Store(Receipts):
    """Opens or creates `path`; new and old files take the same path through the migrations.

    Safe to use from many threads and from several processes at once.
    """
