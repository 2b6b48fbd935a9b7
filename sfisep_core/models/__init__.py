"""Separation models: one paper, one module; all meet the contract in `contract`."""
