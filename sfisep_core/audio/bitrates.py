"""Settings of libsndfile's encoders for a requested bit rate."""

from __future__ import annotations

import io
from functools import lru_cache

from sfisep_core.errors import ConfigError

# Bit rates of MP3 in kbit/s by the least sample rate in Hz. Source: ISO/IEC 11172-3, section
# 2.4.2.3; ISO/IEC 13818-3, section 2.4.2.3; below 16 kHz as LAME has them.
_MP3_RATES = {
    32000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    16000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    0: (8, 16, 24, 32, 40, 48, 56, 64),
}
# The first frame has to hold LAME's tag, which tells the exact length: bytes of frame header, side
# information of stereo, and tag. A frame has 1152 samples from 32 kHz on, and 576 below.
_MP3_TAG_BYTES = {1152: 4 + 32 + 156, 576: 4 + 17 + 156}
# LAME scales the signal by these constants, up to these bit rates.
_MP3_GAINS = {160: 0.95, 192: 0.97, 224: 0.98}
# kbit/s of one channel of Opus, which libsndfile's setting divides evenly.
_OPUS_RANGE = (6, 256)
# The nominal bit rate of Vorbis, by which it is chosen, in its first header.
_VORBIS_HEADER = b"\x01vorbis"
_VORBIS_NOMINAL = slice(20, 24)
_BISECTIONS = 12


def compression_level(container: str, bitrate: int, *, channels: int, sample_rate: int) -> float:
    """Return libsndfile's setting for a bit rate.

    That of MP3 is constant. Vorbis and Opus spend more on some music and less on other; with Vorbis
    the bit rate is what libvorbis calls the nominal one.

    Args:
        container: mp3, ogg (Vorbis) or opus.
        bitrate: kbit/s of all channels together.
        channels: Number of channels.
        sample_rate: In Hz.

    Raises:
        ConfigError: The codec does not have this bit rate.
    """
    if container == "mp3":
        rates = _mp3_rates(sample_rate)
        packet = 1152 if sample_rate >= 32000 else 576
        usable = [
            rate for rate in rates if packet * rate * 125 >= _MP3_TAG_BYTES[packet] * sample_rate
        ]
        if bitrate not in usable:
            raise _unusable(bitrate, f"one of {', '.join(map(str, usable))}", "MP3", sample_rate)
        return (rates[-1] - bitrate) / (rates[-1] - rates[0])
    if container == "opus":
        lowest, highest = (channels * limit for limit in _OPUS_RANGE)
        if not lowest <= bitrate <= highest:
            raise _unusable(bitrate, f"{lowest} to {highest}", "Opus", sample_rate)
        return (highest - bitrate) / (highest - lowest)
    if container == "ogg":
        return _vorbis_level(bitrate, channels, sample_rate)
    msg = f"bit rate {bitrate} kbit/s: {container} has none: leave it out, or choose mp3 or ogg"
    raise ConfigError(msg)


def mp3_gain(bitrate: int | None, *, sample_rate: int) -> float:
    """Return the constant by which LAME scales a signal.

    Args:
        bitrate: kbit/s; None = the highest.
        sample_rate: In Hz.
    """
    rate = _mp3_rates(sample_rate)[-1] if bitrate is None else bitrate
    return next((gain for limit, gain in _MP3_GAINS.items() if rate <= limit), 1.0)


def _mp3_rates(sample_rate: int) -> tuple[int, ...]:
    return next(rates for least, rates in _MP3_RATES.items() if sample_rate >= least)


@lru_cache(maxsize=16)
def _vorbis_level(bitrate: int, channels: int, sample_rate: int) -> float:
    """Find the setting with a nominal bit rate, which falls with it, by bisection."""
    best, worst = 0.0, 1.0
    highest, lowest = (_vorbis_nominal(level, channels, sample_rate) for level in (best, worst))
    if lowest <= 0:
        msg = (
            f"bit rate {bitrate} kbit/s: Ogg Vorbis has a quality only at {sample_rate} Hz: leave "
            "the bit rate out"
        )
        raise ConfigError(msg)
    if not lowest <= 1000 * bitrate <= highest:
        expected = f"{-(-lowest // 1000)} to {highest // 1000}"
        raise _unusable(bitrate, expected, "Ogg Vorbis", sample_rate)
    for _ in range(_BISECTIONS):
        level = (best + worst) / 2
        if _vorbis_nominal(level, channels, sample_rate) > 1000 * bitrate:
            best = level
        else:
            worst = level
    return worst


def _vorbis_nominal(level: float, channels: int, sample_rate: int) -> int:
    """Return the nominal bit rate in bit/s of an empty file with a setting."""
    import soundfile  # here, so that formats are checked without loading libsndfile

    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", sample_rate, channels, "VORBIS", format="OGG", compression_level=level
    ):
        pass
    content = file.getvalue()
    header = content[content.index(_VORBIS_HEADER) :]
    return int.from_bytes(header[_VORBIS_NOMINAL], "little", signed=True)


def _unusable(bitrate: int, expected: str, codec: str, sample_rate: int) -> ConfigError:
    return ConfigError(
        f"bit rate {bitrate} kbit/s: expected {expected} kbit/s in {codec} at {sample_rate} Hz"
    )
