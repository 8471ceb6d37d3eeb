"""Between hosts: rating events leave each host as shards in a shared place, a learner's host gathers them and publishes versions there.

Lives here: the shared place (any fsspec URL), what a shard is, and the loop. What goes into shards and what becomes of them
is in `data/outbox.py`, `data/inbox.py` and `data/version_shards.py`. May not live here: SQL.
"""
