"""The chat app behind its pages."""
