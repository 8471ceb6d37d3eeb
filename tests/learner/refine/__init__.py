"""How far to go."""
