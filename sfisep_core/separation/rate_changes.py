"""Changes of rate of the resampling methods, to a model's native rate and back.

Each change of rate takes (signal, its rate, target rate, options) and returns the signal at the
target rate, ceil(time * target / orig) samples long. Axes before the last are kept, and channels
are independent.
"""

import logging
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from sfisep_core.audio.kernel_noise import kernel_noise
from sfisep_core.audio.resample import resample, sinc_fits, sinc_resample
from sfisep_core.separation.settings import MethodOptions

_logger = logging.getLogger(__name__)

Samples = npt.NDArray[np.float32]


RateChange = Callable[[Samples, int, int, MethodOptions], Samples]


def change_with_sinc(
    signal: Samples, orig_rate: int, target_rate: int, options: MethodOptions
) -> Samples:
    """Use torchaudio's default windowed sinc, or soxr where its filters need too much memory."""
    if not sinc_fits(orig_rate=orig_rate, target_rate=target_rate):
        _logger.info("resampling from %d to %d Hz with soxr", orig_rate, target_rate)
        return change_with_soxr(signal, orig_rate, target_rate, options)
    return sinc_resample(
        torch.from_numpy(signal), orig_rate=orig_rate, target_rate=target_rate
    ).numpy()


def change_with_soxr(
    signal: Samples, orig_rate: int, target_rate: int, options: MethodOptions
) -> Samples:
    """Use soxr at its highest quality."""
    del options
    channels = signal.reshape(math.prod(signal.shape[:-1]), signal.shape[-1])
    resampled = resample(channels, orig_rate=orig_rate, target_rate=target_rate)
    return resampled.reshape(*signal.shape[:-1], resampled.shape[-1])


def change_with_noisy_kernel(
    signal: Samples, orig_rate: int, target_rate: int, options: MethodOptions
) -> Samples:
    """Up-sample with noise on the taps of the kernel; down-sample without noise.

    Where `change_with_sinc` uses soxr, the change due to the noise on the sinc's taps is added to
    soxr's output.
    """
    resampled = change_with_sinc(signal, orig_rate, target_rate, options)
    if target_rate > orig_rate and options.kernel_noise_level > 0:
        resampled += kernel_noise(
            signal,
            orig_rate=orig_rate,
            target_rate=target_rate,
            level=options.kernel_noise_level,
            seed=options.seed,
        )
    return resampled


def change_with_post_noise(
    signal: Samples, orig_rate: int, target_rate: int, options: MethodOptions
) -> Samples:
    """Add white noise to the up-sampled signal; down-sample without noise.

    All channels get the same noise, scaled to the level of each.
    """
    resampled = change_with_sinc(signal, orig_rate, target_rate, options)
    length = resampled.shape[-1]
    if target_rate > orig_rate and options.post_noise_level > 0 and length > 0:
        power = np.mean(np.square(resampled, dtype=np.float64), axis=-1, keepdims=True)
        scale = (options.post_noise_level * np.sqrt(power)).astype(np.float32)
        draws = np.random.default_rng(options.seed).standard_normal(length, dtype=np.float32)
        resampled += scale * draws
    return resampled
