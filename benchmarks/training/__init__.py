"""`python -m benchmarks.training`: training throughput of the learner beside TRL's KTO on the same batches, step by step in turn."""
