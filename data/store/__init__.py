"""`Store`: everything that is remembered, in one SQLite file. Its chapters are chats, ratings, runs, versions, receipts, what to ask, histories, trust, what goes to and comes from other hosts, and what is kept of old versions."""

from __future__ import annotations

from data.store.retention import Retention


class Store(Retention):
    """Opens or creates `path`; new and old files take the same path through the migrations.

    Safe to use from many threads and from several processes at once.
    """
