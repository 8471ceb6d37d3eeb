"""`python -m benchmarks.gate`: how many deliberately spoiled candidates the gate refuses, and how many good ones it lets through."""
