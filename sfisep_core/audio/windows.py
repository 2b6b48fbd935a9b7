"""Windows of short-time transforms as functions of continuous time."""

from typing import Literal

import torch
from torch import Tensor

Window = Literal["hann", "hann-symmetric", "blackmanharris", "rectangular"]


def evaluate_window(name: Window, ticks: Tensor, *, n_fft: int, ticks_per_sample: int) -> Tensor:
    """Evaluate a window at the times of samples.

    Args:
        name: "hann": sin^2 with period n_fft. "hann-symmetric", "blackmanharris" (four terms):
            with period n_fft - 1, so that the last sample equals the first. "rectangular": 1.
        ticks: Integer times from the window's start; any shape.
        n_fft: Length of the window in samples at the native rate.
        ticks_per_sample: Ticks per sample of n_fft.

    Returns:
        Values, float64, same shape; 0 outside the window.

    >>> evaluate_window("hann", torch.arange(6), n_fft=4, ticks_per_sample=1)
    tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000, 0.0000], dtype=torch.float64)
    """
    if name == "rectangular":
        return ((ticks >= 0) & (ticks < n_fft * ticks_per_sample)).double()
    period = (n_fft if name == "hann" else n_fft - 1) * ticks_per_sample
    cosine = torch.cos(2 * torch.pi / period * ticks.double())
    if name == "blackmanharris":
        # a - b cos x + c cos 2x - d cos 3x, with cos 2x and cos 3x as polynomials in cos x
        a, b, c, d = 0.35875, 0.48829, 0.14128, 0.01168
        values = (a - c) + cosine * ((3 * d - b) + cosine * (2 * c - 4 * d * cosine))
    else:
        values = 0.5 - 0.5 * cosine
    return torch.where((ticks >= 0) & (ticks <= period), values, 0.0)
