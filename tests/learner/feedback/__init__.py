"""What people said, to rewards."""
