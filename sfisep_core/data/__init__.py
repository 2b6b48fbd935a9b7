"""Data sets: layouts, preparation, mixing, and a synthetic demo corpus."""
