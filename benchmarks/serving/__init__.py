"""`python -m benchmarks.serving`: first tokens, tokens a second and the gaps between them, ours beside other engines on the same weights.

Each engine is a process of its own and they take turns, so that no figure contains another engine's memory or work.
"""
