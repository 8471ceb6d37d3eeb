"""Gradients and steps."""
