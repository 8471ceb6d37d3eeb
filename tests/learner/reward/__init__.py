"""Models of the ratings."""
