"""Mel spectrograms for pages that show a signal."""

import math

import numpy as np
import numpy.typing as npt

_WINDOW_SECONDS = 0.046
_MAX_BANDS = 96


def mel_window(sample_rate: int) -> int:
    """Return the length of the window in samples, which is even."""
    return int(2 ** round(math.log2(_WINDOW_SECONDS * sample_rate)))


def mel_bands(sample_rate: int) -> int:
    """Return the number of bands: as many as low rates can resolve."""
    return min(_MAX_BANDS, mel_window(sample_rate) // 8)


def mel_power(
    signal: npt.NDArray[np.float32], sample_rate: int, *, hop: int
) -> npt.NDArray[np.float32]:
    """Compute the power in mel bands, of all windows that lie within the signal.

    Args:
        signal: Shape (*leading, time), at least one window long.
        sample_rate: Hz; the bands reach up to half of it.
        hop: Samples between two windows, 1 or more; the first begins with the signal.

    Returns:
        Shape (*leading, band, frame), the lowest band first.
    """
    import librosa

    power: npt.NDArray[np.float32] = librosa.feature.melspectrogram(
        y=signal,
        sr=sample_rate,
        n_fft=mel_window(sample_rate),
        hop_length=hop,
        n_mels=mel_bands(sample_rate),
        center=False,
    )
    return power
