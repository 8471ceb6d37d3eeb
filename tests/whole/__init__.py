"""The product in one piece, and the repository."""
