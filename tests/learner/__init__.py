"""The learner, in the order of its folders."""
