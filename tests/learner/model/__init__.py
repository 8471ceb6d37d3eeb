"""The policy, and who computes and samples for it."""
