"""A run from its lease to its report: when, by whom, in what stages."""
