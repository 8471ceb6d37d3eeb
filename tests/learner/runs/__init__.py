"""When, by whom, and the stages."""
