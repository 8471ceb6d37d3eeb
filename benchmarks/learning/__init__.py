"""`python -m benchmarks.learning`: from one set of simulated ratings, arms side by side on held-out prompts.

Gold tastes are hidden from every learner; they rate the training replies (through a crowd) and score the held-out ones.
"""
