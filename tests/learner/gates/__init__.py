"""What a candidate must show."""
