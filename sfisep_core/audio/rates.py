"""The sampling frequencies that recordings may have."""

MIN_SAMPLE_RATE = 4_000
MAX_SAMPLE_RATE = 384_000
