"""Check the recordings passed to the Python API: samples and sampling frequencies."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.files import read_audio
from sfisep_core.audio.rates import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from sfisep_core.errors import ConfigError

Recording = str | os.PathLike[str] | tuple[npt.ArrayLike, int]
"""A recording: the path of an audio file, or (samples, sampling frequency in Hz)."""

# Floating-point files may contain values up to 3e38, but sums of powers must be finite.
LARGEST_SAMPLE = 1e12
# An array with more channels is probably laid out as (time, channel).
MAX_CHANNELS = 64


def read_recording(source: Recording) -> tuple[npt.NDArray[np.float32], int]:
    """Read a file, or check an array.

    Returns:
        Samples, shape (channel, time) or, for an array of that shape, (time,), and their rate in
        Hz.

    Raises:
        AudioFileError: The file cannot be read.
        ConfigError: Samples or rate are invalid, or an array came without its rate.
    """
    if isinstance(source, str | os.PathLike):
        return read_audio(Path(source))
    if not isinstance(source, tuple) or len(source) != 2:
        shape = getattr(source, "shape", None)
        got = type(source).__name__ if shape is None else f"an array of shape {tuple(shape)}"
        msg = (
            f"source: expected a path or (samples, sampling frequency in Hz), got {got}: an array "
            "does not say its sampling frequency; pass both, as in separate((x, 44100)); the "
            "argument sample_rate is the rate to separate at"
        )
        raise ConfigError(msg)
    samples, rate = source
    return check_samples(samples), check_rate(rate)


def check_samples(samples: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Check an array of a whole recording.

    Args:
        samples: Floating-point values of shape (time,) or (channel, time), with at most
            `MAX_CHANNELS` channels and, unless it is empty, no more channels than samples in each.

    Returns:
        The samples in float32, copied only if necessary.

    Raises:
        ConfigError: It is anything else, for example of shape (time, channel).
    """
    audio = _check_values(samples)
    if audio.ndim == 2 and 0 < audio.shape[1] < audio.shape[0]:
        raise ConfigError(_orientation_message("samples", audio.shape))
    return audio


def check_block(samples: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Check a block of a stream: as `check_samples`, but with fewer samples than channels allowed.

    Raises:
        ConfigError: It is anything else.
    """
    return _check_values(samples, what="block")


def check_rate(rate: float) -> int:
    """Check a sampling frequency in Hz.

    Raises:
        ConfigError: It is not a whole number, or out of range.
    """
    is_number = isinstance(rate, int | float | np.number)
    if not (is_number and MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE and rate == int(rate)):
        msg = (
            f"sampling frequency {rate!r} Hz: expected a whole number from {MIN_SAMPLE_RATE} to "
            f"{MAX_SAMPLE_RATE} Hz; resample the recording first"
        )
        raise ConfigError(msg)
    return int(rate)


def _check_values(samples: npt.ArrayLike, *, what: str = "samples") -> npt.NDArray[np.float32]:
    audio = np.asarray(samples)
    if (
        audio.ndim not in (1, 2)
        or not np.issubdtype(audio.dtype, np.floating)
        or (audio.ndim == 2 and audio.shape[0] == 0)
    ):
        if np.issubdtype(audio.dtype, np.integer):
            advice = "integers of 16 bits as x / 32768"
        elif np.issubdtype(audio.dtype, np.floating):
            advice = "one recording at a time"
        else:
            advice = "amplitudes as floats"
        msg = (
            f"{what}: expected floating-point values of shape (time,) or (channel, time), got "
            f"{audio.dtype} of shape {audio.shape}: pass {advice}"
        )
        raise ConfigError(msg)
    # Checked first: an array of shape (time, channel) would have thousands of channels.
    if audio.ndim == 2 and audio.shape[0] > MAX_CHANNELS:
        raise ConfigError(_orientation_message(what, audio.shape))
    with np.errstate(over="ignore"):  # values beyond float32 become Inf, and are rejected
        audio = audio.astype(np.float32, copy=False)
    if not (np.abs(audio) <= LARGEST_SAMPLE).all():  # NaN is not
        got = "larger ones" if np.isfinite(audio).all() else "NaN or Inf"
        msg = (
            f"{what}: expected finite values of at most {LARGEST_SAMPLE:.0e} (full scale is 1), "
            f"found {got}: mend or mute them first"
        )
        raise ConfigError(msg)
    return audio


def _orientation_message(what: str, shape: tuple[int, ...]) -> str:
    channels, frames = shape
    message = (
        f"{what}: expected shape (channel, time) with at most {MAX_CHANNELS} channels, got "
        f"{shape}, which is {channels} channels of {frames} samples: pass x.T if it is (time, "
        "channel), as soundfile.read gives it"
    )
    if channels <= MAX_CHANNELS:
        message += f"; if it is that short, append zeros up to {channels} samples"
    return message
