"""A random equaliser: smooth gains over frequency, for a batch of stems at once."""

import math

import torch
from torch import Tensor

# Gains are drawn at these frequencies in Hz, evenly spaced in octaves.
EQUALIZER_FREQUENCIES = tuple(40.0 * 400.0 ** (point / 7) for point in range(8))

# Silence after an excerpt, since the FFT filters in a circle: what would come round from one end to
# the other falls into it. What a click leaves there after this time is -70 dB of its energy or less
# with gains of +-6 dB, and -50 dB with +-20 dB.
_PADDING_SECONDS = 0.1


def equalizer_response(curves: Tensor, frequencies: Tensor) -> Tensor:
    """Draw smooth lines through the gains of an equaliser.

    Between two points the gain goes along half a period of a cosine over log frequency, so it
    stays between their gains; below the first and above the last point it is theirs.

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
    """Change the tone of stems, each by a gain that depends on frequency, without phase shift.

    Args:
        stems: Shape (batch, source, channel, time).
        curves: Gains in dB at `EQUALIZER_FREQUENCIES`, shape (batch, source, point). A stem whose
            gains are all zero keeps its very samples.
        sample_rate: In Hz. The gains mean the same at every rate.

    Returns:
        The same shape.
    """
    from scipy.fft import next_fast_len  # SciPy loads slowly, and few runs equalize

    time = stems.shape[-1]
    size = next_fast_len(time + round(_PADDING_SECONDS * sample_rate), real=True)
    bins = torch.arange(size // 2 + 1, dtype=stems.dtype, device=stems.device)
    decibels = equalizer_response(curves, bins * (sample_rate / size))
    spectrum = torch.fft.rfft(stems, n=size) * 10 ** (decibels / 20).unsqueeze(-2)
    changed = torch.fft.irfft(spectrum, n=size)[..., :time]
    return torch.where((curves != 0).any(dim=-1)[..., None, None], changed, stems)
