"""Measuring separations against their references."""
