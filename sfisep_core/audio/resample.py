"""Change the sample rate of a signal: soxr for users' audio, torchaudio for the baselines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import soxr
from numpy.typing import NDArray

from sfisep_core.audio.torchaudio_check import check_torchaudio
from sfisep_core.errors import ConfigError

if TYPE_CHECKING:
    import torch
    import torchaudio.transforms

# torchaudio stores one dense filter per output phase: 44100 -> 44101 Hz would need 2e9 taps. 2**24
# taps (64 MiB) are far more than any pair of common rates needs.
_MAX_TAPS = 2**24
# Filters of up to this many taps (4 MiB) are cached, because computing them synchronises with the
# GPU. This includes all pairs of common rates, also after the rate changes of training.
_MAX_KEPT_TAPS = 2**20
_MAX_KEPT = 128
SINC_ZERO_CROSSINGS = 6
"""Of the baselines' windowed sinc, on each side."""
SINC_ROLLOFF = 0.99
"""Of the baselines' windowed sinc: cut-off frequency relative to half the lower rate."""


def resampled_length(frames: int, *, orig_rate: int, target_rate: int) -> int:
    """Return the number of samples after resampling: ceil(frames * target / orig).

    Args:
        frames: Length of the signal in samples, 0 or more.
        orig_rate: Its sample rate in Hz, 1 or more.
        target_rate: The requested rate in Hz, 1 or more.

    Returns:
        The length at `target_rate` in samples.

    Raises:
        ConfigError: If a rate is below 1 Hz.

    Example:
        >>> resampled_length(44100, orig_rate=44100, target_rate=8000)
        8000
    """
    if min(orig_rate, target_rate) < 1:
        msg = (
            f"resampling from {orig_rate} Hz to {target_rate} Hz: "
            "expected two rates of 1 Hz or more; pass positive sample rates"
        )
        raise ConfigError(msg)
    return -(-frames * target_rate // orig_rate)


def resample(
    audio: NDArray[np.float32], *, orig_rate: int, target_rate: int, length: int | None = None
) -> NDArray[np.float32]:
    """Resample a whole signal with soxr at its highest quality (VHQ).

    Args:
        audio: Signal, shape (channels, frames), at `orig_rate`; any number of frames from 0.
        orig_rate: Sample rate of `audio` in Hz, 1 or more.
        target_rate: Sample rate of the result in Hz, 1 or more.
        length: Frames of the result; the end is zero-padded or cropped. None means
            ceil(frames * target_rate / orig_rate).

    Returns:
        The signal at `target_rate`, shape (channels, length). At equal rates these are the samples
        of `audio`.

    Raises:
        ConfigError: If a rate or `length` is out of range.
    """
    channels, frames = audio.shape
    natural = resampled_length(frames, orig_rate=orig_rate, target_rate=target_rate)
    length = _checked_length(natural if length is None else length)
    if orig_rate == target_rate:
        resampled = audio
    elif frames == 0:
        resampled = np.zeros((channels, 0), dtype=np.float32)
    else:
        padded = np.pad(audio, ((0, 0), (0, _silence_after(orig_rate, target_rate)))).T
        out = soxr.resample(padded, orig_rate, target_rate, quality="VHQ")
        resampled = np.asarray(out, dtype=np.float32).T[:, :natural]
    result = np.zeros((channels, length), dtype=np.float32)
    shared = min(length, resampled.shape[1])
    result[:, :shared] = resampled[:, :shared]
    return result


def resample_blocks(
    blocks: Iterable[NDArray[np.float32]], *, channels: int, orig_rate: int, target_rate: int
) -> Iterator[NDArray[np.float32]]:
    """Resample a signal in blocks, whose concatenation equals the output of `resample`.

    Args:
        blocks: Shape (channels, frames), any number of frames each.
        channels: Number of channels.
        orig_rate: Sample rate of the blocks in Hz, 1 or more.
        target_rate: Sample rate of the result in Hz, 1 or more.

    Yields:
        Blocks of shape (channels, frames) at `target_rate`.

    Raises:
        ConfigError: If a rate is out of range.
    """
    if orig_rate == target_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(orig_rate, target_rate, channels, dtype="float32", quality="VHQ")
    taken = given = 0
    for block in blocks:
        taken += block.shape[1]
        resampled = stream.resample_chunk(np.ascontiguousarray(block.T)).T
        given += resampled.shape[1]
        yield np.ascontiguousarray(resampled)
    natural = resampled_length(taken, orig_rate=orig_rate, target_rate=target_rate)
    silence = np.zeros((_silence_after(orig_rate, target_rate), channels), dtype=np.float32)
    end = stream.resample_chunk(silence, last=True).T
    yield np.ascontiguousarray(end[:, : natural - given])


def _silence_after(orig_rate: int, target_rate: int) -> int:
    """Return the number of zeros to append so that soxr emits the whole signal.

    soxr rounds its output length, so it can end one sample early. The appended zeros yield two more
    output samples, so that the real last sample is computed rather than zero-filled.
    """
    return 2 * -(-orig_rate // target_rate)


def sinc_resample(
    audio: torch.Tensor, *, orig_rate: int, target_rate: int, length: int | None = None
) -> torch.Tensor:
    """Resample with torchaudio's default windowed sinc, the usual baseline in papers.

    Args:
        audio: Signal, shape (..., time), at `orig_rate`; any number of samples from 0.
        orig_rate: Sample rate of `audio` in Hz, 1 or more.
        target_rate: Sample rate of the result in Hz, 1 or more.
        length: Samples of the result; the end is zero-padded or cropped. None means
            ceil(time * target_rate / orig_rate).

    Returns:
        The signal at `target_rate`, shape (..., length), of the type and on the device of `audio`.

    Raises:
        ConfigError: If a rate or `length` is out of range, if the greatest common divisor of the
            rates is so small that the filters need too much memory, or if torchaudio cannot be
            loaded.

    Source:
        Hann-windowed sinc with 6 zero crossings and roll-off 0.99, the defaults of
        `torchaudio.functional.resample`.
    """
    natural = resampled_length(audio.shape[-1], orig_rate=orig_rate, target_rate=target_rate)
    length = _checked_length(natural if length is None else length)
    if audio.numel() == 0:
        return audio.new_zeros((*audio.shape[:-1], length))
    if not sinc_fits(orig_rate=orig_rate, target_rate=target_rate):
        taps = _sinc_taps(orig_rate, target_rate)
        msg = (
            f"sinc resampling from {orig_rate} Hz to {target_rate} Hz needs {taps} filter taps, "
            f"expected at most {_MAX_TAPS}: the rates have too small a common divisor; "
            "use `resample` (soxr) for this pair of rates"
        )
        raise ConfigError(msg)

    if orig_rate == target_rate:
        resampled = audio
    else:
        kept = _sinc_taps(orig_rate, target_rate) <= _MAX_KEPT_TAPS
        make = _sinc_resampler if kept else _sinc_resampler.__wrapped__
        resampled = make(orig_rate, target_rate, audio.dtype, audio.device)(audio.contiguous())

    # Imported here because it is slow to load and soxr does not need it.
    import torch

    # torchaudio rounds the length in float32, which is inexact above 2**24 samples.
    missing = max(0, length - resampled.shape[-1])
    return torch.nn.functional.pad(resampled[..., :length], (0, missing))


def limit_band(audio: torch.Tensor, *, sample_rate: int, limit: int) -> torch.Tensor:
    """Remove the band that a lower rate cannot represent, keeping rate and length.

    Args:
        audio: Signal, shape (..., time).
        sample_rate: Its rate in Hz.
        limit: The lower rate in Hz.

    Returns:
        The band-limited signal, same shape.

    Raises:
        ConfigError: As in `sinc_resample`.
    """
    lower = sinc_resample(audio, orig_rate=sample_rate, target_rate=limit)
    return sinc_resample(lower, orig_rate=limit, target_rate=sample_rate, length=audio.shape[-1])


@lru_cache(maxsize=_MAX_KEPT)
def _sinc_resampler(
    orig_rate: int, target_rate: int, dtype: torch.dtype, device: torch.device
) -> torchaudio.transforms.Resample:
    check_torchaudio(
        f"sinc resampling from {orig_rate} Hz to {target_rate} Hz",
        instead="use `resample` (soxr)",
    )
    import torch
    import torchaudio.transforms

    # Filters created in inference mode could not be used where gradients are required.
    with torch.inference_mode(mode=False):
        return torchaudio.transforms.Resample(
            orig_rate,
            target_rate,
            lowpass_filter_width=SINC_ZERO_CROSSINGS,
            rolloff=SINC_ROLLOFF,
            dtype=dtype,
        ).to(device)


def sinc_fits(*, orig_rate: int, target_rate: int) -> bool:
    """Tell whether `sinc_resample` supports a pair of rates within its memory limit."""
    return orig_rate == target_rate or _sinc_taps(orig_rate, target_rate) <= _MAX_TAPS


def _checked_length(length: int) -> int:
    if length < 0:
        msg = f"resampling: length must be 0 samples or more, got {length}; pass None for all of it"
        raise ConfigError(msg)
    return length


def _sinc_taps(orig_rate: int, target_rate: int) -> int:
    divisor = math.gcd(orig_rate, target_rate)
    orig, target = orig_rate // divisor, target_rate // divisor
    half_width = math.ceil(SINC_ZERO_CROSSINGS * orig / (min(orig, target) * SINC_ROLLOFF))
    return target * (2 * half_width + orig)
