"""Limits of the output formats, and the settings of their codecs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sfisep_core.audio.bitrates import compression_level
from sfisep_core.errors import ConfigError

Encoding = Literal["int16", "int24", "float32"]

SUBTYPES = {"int16": "PCM_16", "int24": "PCM_24", "float32": "FLOAT"}
BITS = {"int16": 16, "int24": 24, "float32": 32}

LOSSLESS = ("wav", "flac")
STEM_MP4 = "stem.mp4"
_WAV_MAX_CHANNELS = 1024
_MAX_CHANNELS = {"wav": _WAV_MAX_CHANNELS, "flac": 8, STEM_MP4: 2}
# An MP4 stores the rate in 16 bits.
_MP4_MAX_RATE = 2**16 - 1
# A FLAC frame header stores the rate in 16 bits, in Hz or in tens of Hz.
_FLAC_MAX_RATE = 2**16 - 1
_FLAC_MAX_ROUND_RATE = 10 * _FLAC_MAX_RATE
# libsndfile aborts the process at higher rates.
_VORBIS_MAX_RATE = 200_000


@dataclass(frozen=True)
class Codec:
    """A lossy codec as libsndfile writes it, with one sample format.

    Attributes:
        name: Name in messages.
        format: The container in libsndfile's terms.
        subtype: The codec in libsndfile's terms.
        sample_rates: Supported rates in Hz.
        max_channels: Maximum number of channels that all keep the full band.
        compression_level: libsndfile's setting, 0 = best; None = the codec has none.
        bitrate_mode: libsndfile's setting; None = the codec's own.
    """

    name: str
    format: str
    subtype: str
    sample_rates: tuple[int, ...] | range
    max_channels: int
    compression_level: float | None
    bitrate_mode: str | None = None


# Settings for about 320 kbit/s at stereo and 44.1 or 48 kHz, transparent in all three codecs. MP3
# has a constant rate, because libsndfile's decoder (mpg123 1.32.3) decodes tones and silence of
# variable-rate files incorrectly. With six channels or more Vorbis and Opus treat one as the bass
# channel of 5.1 and remove nearly all of its band.
CODECS = {
    "mp3": Codec(
        name="MP3",
        format="MP3",
        subtype="MPEG_LAYER_III",
        sample_rates=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        max_channels=2,
        compression_level=0.0,
        bitrate_mode="CONSTANT",
    ),
    "ogg": Codec(
        name="Ogg Vorbis",
        format="OGG",
        subtype="VORBIS",
        sample_rates=range(1, _VORBIS_MAX_RATE + 1),
        max_channels=5,
        compression_level=0.1,
    ),
    "opus": Codec(
        name="Opus",
        format="OGG",
        subtype="OPUS",
        sample_rates=(8000, 12000, 16000, 24000, 48000),
        max_channels=5,
        compression_level=0.4,
    ),
}

# Ogg orders its channels in its own way, and libsndfile passes them on as they are:
# channel i of WAV and FLAC (left, right, centre, bass, ...) is channel OGG_ORDER[channels][i].
# Source: Vorbis I specification, section 4.3.9; RFC 7845, section 5.1.1.2.
OGG_ORDER = {
    3: [0, 2, 1],
    5: [0, 2, 1, 3, 4],
    6: [0, 2, 1, 5, 3, 4],
    7: [0, 2, 1, 6, 5, 3, 4],
    8: [0, 2, 1, 7, 5, 6, 3, 4],
}


def check_output_format(
    container: str,
    encoding: str | None,
    channels: int,
    sample_rate: int,
    bitrate: int | None = None,
) -> None:
    """Check, before any work is done, that a container can store a signal.

    Args:
        container: wav, flac, mp3, ogg (Vorbis), opus or stem.mp4.
        encoding: int16, int24 or float32; FLAC and stem.mp4 have no float32. None = the container's
            default, the only choice for mp3, ogg and opus.
        channels: 1 to 1024; in FLAC 1 to 8, in Vorbis and Opus 1 to 5, in MP3 and stem.mp4 1 or 2.
        sample_rate: In Hz, 1 or more; in FLAC up to 65535 Hz, or a multiple of 10 up to 655350 Hz;
            in Vorbis up to 200000 Hz; in Opus 8, 12, 16, 24 or 48 kHz; in MP3 these, 32 kHz,
            11.025, 22.05 or 44.1 kHz.
        bitrate: In kbit/s, see `bitrates.compression_level`; None = the codec's own.

    Raises:
        ConfigError: If the combination cannot be written.
    """
    if container not in (*LOSSLESS, *CODECS, STEM_MP4):
        expected = "a file that ends in .wav, .flac, .mp3, .ogg or .opus"
        got, advice = f"'.{container}'", "write WAV and convert it with ffmpeg"
    elif encoding is not None and encoding not in get_args(Encoding):
        expected, got, advice = "int16, int24 or float32", repr(encoding), "choose one of them"
    elif encoding is not None and container in CODECS:
        expected = f"no encoding with {CODECS[container].name}, which has no sample format"
        got, advice = encoding, "leave the encoding out, or choose WAV or FLAC"
    elif container in ("flac", STEM_MP4) and encoding == "float32":
        expected = f"int16 or int24 in {container.upper()}"
        got, advice = "float32", "choose int24, or WAV"
    elif limit := _exceeded_limit(container, channels, sample_rate):
        expected, got = limit
        # Do not suggest a lossy codec to users who ask for lossless audio.
        choices = [
            CODECS[other].name if other in CODECS else other.upper()
            for other in (*LOSSLESS, *(CODECS if container in CODECS else ()))
            if _exceeded_limit(other, channels, sample_rate) is None
        ]
        if choices:
            advice = f"choose {' or '.join(choices)}"
            advice += _or_another_rate(container, channels, sample_rate)
        elif channels < 1:
            advice = "write one or more"
        else:
            advice = "write fewer channels" if channels > _WAV_MAX_CHANNELS else "correct it"
    else:
        if bitrate is not None:
            compression_level(container, bitrate, channels=channels, sample_rate=sample_rate)
        return
    msg = f"cannot write this audio format: expected {expected}, got {got}; {advice}"
    raise ConfigError(msg)


def _or_another_rate(container: str, channels: int, sample_rate: int) -> str:
    """Return an addition to advice: the next rate of a lossy codec, where that alone helps."""
    if container not in CODECS:
        return ""
    rates = CODECS[container].sample_rates
    other = next((rate for rate in rates if rate > sample_rate), rates[-1])
    if _exceeded_limit(container, channels, other) is not None:
        return ""
    return f", or separate at {other} Hz (--sr)"


def _exceeded_limit(container: str, channels: int, sample_rate: int) -> tuple[str, str] | None:
    """Return the expected and the actual value of an exceeded limit; None if none is exceeded."""
    codec = CODECS.get(container)
    name = codec.name if codec else container.upper()
    max_channels = codec.max_channels if codec else _MAX_CHANNELS[container]
    if not 1 <= channels <= max_channels:
        return f"1 to {max_channels} channels in {name}", str(channels)
    if sample_rate < 1:
        return "a sample rate of 1 Hz or more", f"{sample_rate} Hz"
    if codec and sample_rate not in codec.sample_rates:
        if isinstance(codec.sample_rates, range):
            rates = f"up to {codec.sample_rates[-1]}"
        else:
            rates = ", ".join(map(str, codec.sample_rates[:-1]))
            rates += f" or {codec.sample_rates[-1]}"
        return f"a sample rate of {rates} Hz in {name}", f"{sample_rate} Hz"
    if container == STEM_MP4 and sample_rate > _MP4_MAX_RATE:
        return f"a sample rate of up to {_MP4_MAX_RATE} Hz in {name}", f"{sample_rate} Hz"
    if container == "flac" and not (
        sample_rate <= _FLAC_MAX_RATE
        or (sample_rate <= _FLAC_MAX_ROUND_RATE and sample_rate % 10 == 0)
    ):
        expected = (
            f"a sample rate of up to {_FLAC_MAX_RATE} Hz, or a multiple of 10 Hz up to "
            f"{_FLAC_MAX_ROUND_RATE} Hz, in FLAC"
        )
        return expected, f"{sample_rate} Hz"
    if codec:
        import soundfile  # here, so that formats are checked without loading libsndfile

        if codec.subtype not in soundfile.available_subtypes(codec.format):
            return f"a libsndfile with {name}", f"libsndfile {soundfile.__libsndfile_version__}"
    return None
