"""Noise on the kernel of a resampler."""

import math

import numpy as np
from numpy.typing import NDArray

from sfisep_core.audio.resample import SINC_ROLLOFF, SINC_ZERO_CROSSINGS, resampled_length
from sfisep_core.errors import ConfigError

_NOISE_BLOCK = 2**18  # samples


def kernel_noise(
    audio: NDArray[np.float32], *, orig_rate: int, target_rate: int, level: float, seed: int
) -> NDArray[np.float32]:
    """Compute the change of `sinc_resample`'s output due to Gaussian noise on its taps.

    Resampling is linear in its kernel: the output with noisy taps is that of `sinc_resample` plus
    this. The kernel is the windowed sinc on the grid of all distances between an input and an
    output sample (every pair of phase and tap of torchaudio's filters where the window is not 0,
    about 12.1 taps per phase). Each of its taps gets independent noise.

    Args:
        audio: Signal, shape (channels, frames), at `orig_rate`; any number of frames from 0.
        orig_rate: Sample rate of `audio` in Hz, 1 or more.
        target_rate: Sample rate of the result in Hz, `orig_rate` or more.
        level: Standard deviation of the noise relative to the RMS of the taps, 0 or more. For a
            white signal the noise has `level` times the RMS of the resampled signal. For any signal
            the fraction orig_rate / target_rate of the noise's energy lies below orig_rate / 2, on
            average over seeds.
        seed: Seed of the noise, 0 or more, the same for all channels.

    Returns:
        The signal to add, shape (channels, ceil(frames * target_rate / orig_rate)).

    Raises:
        ConfigError: If a rate is out of range, or `target_rate` below `orig_rate`.

    Source:
        Noisy-kernel resampling, Imamura et al., ICASSP 2026 (arXiv 2601.14684). The unit of `level`
        is defined here.
    """
    channels, frames = audio.shape
    length = resampled_length(frames, orig_rate=orig_rate, target_rate=target_rate)
    if target_rate < orig_rate:
        msg = (
            f"kernel noise from {orig_rate} Hz to {target_rate} Hz: expected a target rate of "
            f"{orig_rate} Hz or more; use `sinc_resample` to go down"
        )
        raise ConfigError(msg)
    divisor = math.gcd(orig_rate, target_rate)
    orig, target = orig_rate // divisor, target_rate // divisor
    # Output sample m lies at m orig / target = start + phase / target input samples, and depends on
    # the input samples start + offset.
    reach = math.ceil(SINC_ZERO_CROSSINGS / SINC_ROLLOFF)
    offsets = np.arange(1 - reach, reach + 1)
    crossings = SINC_ROLLOFF * (np.arange(target)[:, None] / target - offsets)
    inside = np.abs(crossings) < SINC_ZERO_CROSSINGS
    window = np.cos(np.pi / 2 * crossings / SINC_ZERO_CROSSINGS) ** 2
    taps = SINC_ROLLOFF * np.sinc(crossings) * window
    deviation = level * math.sqrt(np.mean(taps[inside] ** 2))
    draws = np.random.default_rng(seed).standard_normal(taps.shape)
    noise = np.where(inside, deviation * draws, 0.0).astype(np.float32)

    padded = np.pad(audio, ((0, 0), (reach, reach)))
    result = np.zeros((channels, length), dtype=np.float32)
    for first in range(0, length, _NOISE_BLOCK):
        block = result[:, first : first + _NOISE_BLOCK]
        starts, phases = np.divmod(np.arange(first, first + block.shape[1]) * orig, target)
        for column, offset in enumerate(offsets):
            block += noise[phases, column] * padded[:, starts + (offset + reach)]
    return result
