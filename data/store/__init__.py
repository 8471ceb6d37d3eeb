"""`Store`: everything that is remembered, in one SQLite file. 

`Store` is made of chapters, one file each, of which each may use those before it:

    database                                              connections and transactions
    chats, comparisons, corrections, reasons, second_opinions, ratings      what is said, and what is said of it
    runs (with leases), versions, receipts                what a learner did with that
    asking, history, trust                                what to ask a comparison of; a person's own conversations, consent and end
    outbox, inbox, version_shards                         what goes to and comes from other hosts (shards: its form; arrivals: what is taken in)
    retention                                             what is kept of old versions
"""

from __future__ import annotations

from data.store.retention import Retention


class Store(Retention):
    """Opens or creates `path`; new and old files take the same path through the migrations.

    Safe to use from many threads and from several processes at once.
    """
