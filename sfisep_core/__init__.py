"""Sampling-frequency-independent music source separation: models, training, separation, scores."""
