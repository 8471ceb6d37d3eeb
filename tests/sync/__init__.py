"""Hosts that meet in a shared place."""
