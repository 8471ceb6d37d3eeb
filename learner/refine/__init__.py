"""How far towards what those models prefer: a small step, multiplied while fresh replies stay within bounds."""
