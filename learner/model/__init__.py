"""The policy: the base model with an adapter, what goes through it at once and on how many threads or processes, and who samples for it."""
