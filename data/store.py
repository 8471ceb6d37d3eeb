"""`Store`: everything that is remembered, in one SQLite file. Its chapters are chats, ratings, runs, versions, receipts, what to ask, histories, trust, and what goes to and comes from other hosts."""

from __future__ import annotations

from data.version_shards import VersionShards


class Store(VersionShards):
    """Opens or creates `path`; new and old files take the same path through the migrations.

    Safe to use from many threads and from several processes at once.
    """
