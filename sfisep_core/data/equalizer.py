"""A random equaliser: smooth gains over frequency, for a batch of stems at once."""

import math

import torch
from torch import Tensor

# Gains are drawn at these frequencies in Hz, equally spaced in octaves.
EQUALIZER_FREQUENCIES = tuple(40.0 * 400.0 ** (point / 7) for point in range(8))

# Zero padding of an excerpt against the circular convolution of the FFT. The response to a click
# after this time is below -70 dB of its energy with gains of +-6 dB, and below -50 dB with +-20 dB.
_PADDING_SECONDS = 0.1


def equalizer_response(curves: Tensor, frequencies: Tensor) -> Tensor:
    """Interpolate the gains of an equaliser smoothly over frequency.

    Between two points the gain follows half a period of a cosine over log frequency, so it stays
    between their gains; below the first and above the last point it is constant.

    Args:
        curves: Gains in dB at `EQUALIZER_FREQUENCIES`, shape (..., point).
        frequencies: In Hz, 0 or more, shape (frequency,).

    Returns:
        Gains in dB, shape (..., frequency).
    """
    points = curves.shape[-1]
    low, high = EQUALIZER_FREQUENCIES[0], EQUALIZER_FREQUENCIES[-1]
    position = torch.log2(frequencies.clamp(low, high) / low) * (
        (points - 1) / math.log2(high / low)
    )
    numbers = torch.arange(points, dtype=curves.dtype, device=curves.device)
    near = (1 - (position - numbers[:, None]).abs()).clamp_min(0)
    return curves @ (0.5 - 0.5 * torch.cos(math.pi * near))


def equalize(stems: Tensor, curves: Tensor, *, sample_rate: int) -> Tensor:
    """Filter each stem with a frequency-dependent gain of zero phase.

    Args:
        stems: Shape (batch, source, channel, time).
        curves: Gains in dB at `EQUALIZER_FREQUENCIES`, shape (batch, source, point). A stem whose
            gains are all zero is not changed.
        sample_rate: In Hz. The gains in Hz do not depend on it.

    Returns:
        The same shape.
    """
    from scipy.fft import next_fast_len  # imported here: slow to load, rarely needed

    time = stems.shape[-1]
    size = next_fast_len(time + round(_PADDING_SECONDS * sample_rate), real=True)
    bins = torch.arange(size // 2 + 1, dtype=stems.dtype, device=stems.device)
    decibels = equalizer_response(curves, bins * (sample_rate / size))
    spectrum = torch.fft.rfft(stems, n=size) * 10 ** (decibels / 20).unsqueeze(-2)
    changed = torch.fft.irfft(spectrum, n=size)[..., :time]
    return torch.where((curves != 0).any(dim=-1)[..., None, None], changed, stems)
