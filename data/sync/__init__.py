"""Between hosts: rating events leave each host as shards in a shared place, a learner's host gathers them and publishes versions there.

Lives here: the shared place (any fsspec URL) and the loop. What a shard is, what goes into it and what becomes of it is in
`data/store/`: shards.py, outbox.py, arrivals.py, inbox.py, version_shards.py. May not live here: SQL.
"""
