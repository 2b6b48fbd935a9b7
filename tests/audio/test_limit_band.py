import math

import torch

from sfisep_core.audio.resample import limit_band


def test_keeps_what_a_lower_rate_holds_and_removes_the_rest() -> None:
    time = torch.arange(16000) / 16000
    low, high = (torch.sin(2 * math.pi * f * time)[None] for f in (1000.0, 5000.0))
    kept = limit_band(low + high, sample_rate=16000, limit=8000)
    assert kept.shape == (1, 16000)
    middle = slice(500, -500)
    assert (kept - low)[:, middle].abs().max() < 1e-2
