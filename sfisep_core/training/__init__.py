"""Train separators."""
