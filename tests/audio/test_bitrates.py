from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sfisep_core.audio.bitrates import compression_level
from sfisep_core.audio.file_writer import AudioWriter
from sfisep_core.audio.files import check_output_format, read_audio
from sfisep_core.errors import ConfigError

SECONDS = 2


def written(path: Path, audio: npt.NDArray[np.float64], sample_rate: int, bitrate: int) -> float:
    """Write a file, and return its kbit/s."""
    channels = audio.shape[0]
    with AudioWriter(path, sample_rate=sample_rate, channels=channels, bitrate=bitrate) as writer:
        writer.write(audio.astype(np.float32))
    return path.stat().st_size * 8 / (audio.shape[1] / sample_rate) / 1000


@pytest.mark.parametrize(
    ("container", "sample_rate", "channels", "bitrates", "tolerance"),
    [
        ("mp3", 48000, 2, (64, 96, 128, 160, 192, 224, 256, 320), 0.05),
        ("mp3", 22050, 1, (64, 96, 160), 0.05),
        ("mp3", 8000, 2, (24, 40, 64), 0.12),
        ("opus", 48000, 2, (64, 96, 256), 0.2),
        ("opus", 24000, 1, (32, 96), 0.2),
        # What noise takes of Vorbis differs from what music does.
        ("ogg", 44100, 2, (96, 160, 320), 0.3),
        ("ogg", 44100, 1, (64, 160), 0.3),
        ("ogg", 22050, 2, (64, 128), 0.3),
    ],
)
def test_bit_rate_level_and_length(
    container: str,
    sample_rate: int,
    channels: int,
    bitrates: tuple[int, ...],
    tolerance: float,
    tmp_path: Path,
) -> None:
    frames = SECONDS * sample_rate
    noise = 0.02 * np.random.default_rng(0).standard_normal((channels, frames))
    tone = 0.3 * np.sin(2 * np.pi * 300 / sample_rate * np.arange(frames))
    path = tmp_path / f"x.{container}"
    for bitrate in bitrates:
        assert written(path, noise + tone, sample_rate, bitrate) == pytest.approx(
            bitrate, rel=tolerance
        )
        decoded, rate = read_audio(path)
        if container != "opus":
            assert (rate, decoded.shape) == (sample_rate, (channels, frames))
        reference = 0.3 * np.sin(2 * np.pi * 300 / rate * np.arange(decoded.shape[1]))
        middle = slice(rate // 2, 3 * rate // 2)
        gain = decoded[:, middle] @ reference[middle] / (reference[middle] @ reference[middle])
        np.testing.assert_allclose(gain, 1, rtol=0.02)


@pytest.mark.parametrize(
    ("container", "bitrate", "channels", "sample_rate", "expected"),
    [
        (
            "mp3",
            100,
            2,
            44100,
            "one of 64, 80, 96, 112, 128, 160, 192, 224, 256, 320 kbit/s in MP3",
        ),
        ("mp3", 320, 2, 22050, "one of 56, 64, 80, 96, 112, 128, 144, 160 kbit/s in MP3 at 22050"),
        ("mp3", 8, 1, 8000, "one of 24, 32, 40, 48, 56, 64 kbit/s"),
        ("opus", 600, 2, 48000, "12 to 512 kbit/s in Opus"),
        ("ogg", 32, 2, 44100, "64 to 499 kbit/s in Ogg Vorbis"),
        ("ogg", 192, 2, 96000, "Ogg Vorbis has a quality only at 96000 Hz"),
        ("wav", 192, 2, 44100, "wav has none"),
        ("flac", 192, 2, 44100, "flac has none"),
    ],
)
def test_bit_rate_that_a_codec_lacks(
    container: str, bitrate: int, channels: int, sample_rate: int, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        check_output_format(container, None, channels, sample_rate, bitrate)


def test_every_bit_rate_in_range_is_one_of_vorbis() -> None:
    # Where settings are far apart and where they are closest, which is at the end.
    rates = [*range(64, 70), 96, 128, 160, 192, *range(254, 258), 320, *range(488, 500)]
    levels = [compression_level("ogg", rate, channels=2, sample_rate=44100) for rate in rates]
    assert levels == sorted(levels, reverse=True)
    assert len(set(levels)) == len(levels)
