"""The pages, most in Chromium."""
