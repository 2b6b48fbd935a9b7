"""Data sets: layouts, preparation, mixing, and a demo corpus that is made on the spot."""
