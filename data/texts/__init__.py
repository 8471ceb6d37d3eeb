"""What is told of a text by itself: what can be stored of it, what in it is personal, and what it is like."""
