"""Separation models, one module per paper; all implement the interface in `contract`."""
