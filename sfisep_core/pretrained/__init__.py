"""Released and bundled weights: names, cache, and readers for foreign checkpoint formats."""
