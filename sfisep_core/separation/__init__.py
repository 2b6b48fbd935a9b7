"""Run models on whole recordings."""
