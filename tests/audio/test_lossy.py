import contextlib
import re
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sfisep_core.audio.files import (
    AudioInfo,
    AudioReader,
    AudioWriter,
    check_output_format,
    read_audio,
    read_info,
    write_audio,
)
from sfisep_core.audio.formats import CODECS, OGG_ORDER
from sfisep_core.errors import AudioFileError, ConfigError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "MP3" not in soundfile.available_formats(), reason="this libsndfile has no MP3"
    ),
]

CONTAINERS = ["mp3", "ogg", "opus"]
VORBIS_RATES = [4000, 8000, 11025, 22050, 44100, 44101, 48000, 96000, 192000, 200000]
RATES = {name: CODECS[name].sample_rates for name in ("mp3", "opus")} | {"ogg": VORBIS_RATES}
FORMATS = [(name, rate) for name in CONTAINERS for rate in RATES[name]]


def tones(channels: int, frames: int, sample_rate: int) -> NDArray[np.float32]:
    """Return a tone of its own in each channel, with silence in between."""
    time = np.arange(frames) / sample_rate
    gate = np.sin(2 * np.pi * 3 * time) > -0.3
    frequencies = sample_rate / 40 * (1 + np.arange(channels)[:, None] / 7)
    return (0.4 * gate * np.sin(2 * np.pi * frequencies * time)).astype(np.float32)


def snr(audio: NDArray[np.float32], again: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.sum(audio**2) / np.sum((again - audio) ** 2)))


@contextlib.contextmanager
def disk_of(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("container", "sample_rate"), FORMATS)
def test_length_is_exact(tmp_path: Path, container: str, sample_rate: int, channels: int) -> None:
    path = tmp_path / f"x.{container}"
    for frames in (0, 1, 2, 100, 1152, 4097, 44100):
        audio = tones(channels, frames, sample_rate)
        write_audio(path, audio, sample_rate=sample_rate)
        codec = "vorbis" if container == "ogg" else container
        file = "ogg" if container == "opus" else container
        # Opus is decoded at its own rate, whatever was encoded.
        rate = 48_000 if container == "opus" else sample_rate
        length = frames * rate // sample_rate
        assert read_info(path) == AudioInfo(path, rate, channels, length, file, codec)
        again, _ = read_audio(path)
        assert again.shape == (channels, length)


@pytest.mark.parametrize(
    ("container", "sample_rate"), [("mp3", 44100), ("ogg", 44100), ("opus", 48000), ("mp3", 8000)]
)
def test_length_of_100_seconds(tmp_path: Path, container: str, sample_rate: int) -> None:
    path = tmp_path / f"x.{container}"
    frames = 100 * sample_rate + 1
    with AudioWriter(path, sample_rate=sample_rate, channels=1) as writer:
        for start in range(0, frames, 65536):
            writer.write(tones(1, min(65536, frames - start), sample_rate))
    with AudioReader(path) as reader:
        assert reader.info.frames == frames
        assert sum(block.shape[1] for block in reader.blocks()) == frames


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("container", "sample_rate"), FORMATS)
def test_quality_gain_and_delay(
    tmp_path: Path, container: str, sample_rate: int, channels: int
) -> None:
    path = tmp_path / f"x.{container}"
    audio = tones(channels, 60_000, sample_rate)
    write_audio(path, audio, sample_rate=sample_rate)
    again, rate = read_audio(path)
    step = rate // sample_rate  # Opus is decoded at 48 kHz
    again = again[:, ::step]
    assert snr(audio, again) > 25
    assert np.sum(audio * again) / np.sum(audio**2) == pytest.approx(1, abs=0.02)
    noise = np.random.default_rng(0).standard_normal((channels, 60_000)).astype(np.float32) / 10
    write_audio(path, noise, sample_rate=sample_rate)
    again = read_audio(path)[0][:, ::step]
    spectra = np.fft.rfft(noise), np.fft.rfft(again)
    correlation = np.fft.irfft(np.conj(spectra[0]) * spectra[1])
    assert np.all(np.argmax(correlation, axis=1) == 0)


@pytest.mark.parametrize("channels", [3, 4, 5])
@pytest.mark.parametrize("container", ["ogg", "opus"])
def test_every_channel_keeps_its_place(tmp_path: Path, container: str, channels: int) -> None:
    path = tmp_path / f"x.{container}"
    audio = tones(channels, 48_000, 48_000)
    write_audio(path, audio, sample_rate=48_000)
    again, _ = read_audio(path)
    # Opus keeps energies rather than waveforms; another channel would give less than 0 dB.
    assert all(snr(audio[i], again[i]) > 15 for i in range(channels))
    # In the file they stand in the order of Ogg.
    stored, _ = soundfile.read(path, dtype="float32")
    order = OGG_ORDER.get(channels, list(range(channels)))
    # Two decoders of Opus differ by rounding and noise filling, far below any other channel.
    np.testing.assert_allclose(stored.T[order], again, atol=1e-3)


@pytest.mark.parametrize("container", CONTAINERS)
def test_samples_beyond_full_scale_are_clamped(tmp_path: Path, container: str) -> None:
    audio = 3 * tones(2, 48_000, 48_000)
    assert np.abs(audio).max() > 1.1
    for name, samples in [("a", audio), ("b", np.clip(audio, -1, 1))]:
        write_audio(tmp_path / f"{name}.{container}", samples, sample_rate=48_000)
    contents = [(tmp_path / f"{name}.{container}").read_bytes() for name in "ab"]
    assert contents[0] == contents[1]


@pytest.mark.parametrize("frames", [0, 1, 100_000])
@pytest.mark.parametrize("container", CONTAINERS)
def test_equal_samples_are_equal_files(tmp_path: Path, container: str, frames: int) -> None:
    audio = tones(2, frames, 48_000)
    with AudioWriter(tmp_path / f"a.{container}", sample_rate=48_000, channels=2) as writer:
        writer.write(audio)
    # Blocks of another length, but for the ends of what libsndfile is given at once.
    with AudioWriter(tmp_path / f"b.{container}", sample_rate=48_000, channels=2) as writer:
        for start in range(0, frames, 4096):
            writer.write(audio[:, start : start + 4096])
    contents = [(tmp_path / f"{name}.{container}").read_bytes() for name in "ab"]
    assert contents[0] == contents[1]


@pytest.mark.parametrize("cut", [20, 0.3, 0.7, -400, -30, -1])
@pytest.mark.parametrize("container", CONTAINERS)
def test_full_disk(tmp_path: Path, container: str, cut: float) -> None:
    path = tmp_path / f"x.{container}"
    noise = np.random.default_rng(0).standard_normal((2, 30_000)).astype(np.float32) / 10
    write_audio(path, noise, sample_rate=48_000)
    size = path.stat().st_size
    path.unlink()
    limit = int(size * cut) if 0 < cut < 1 else int(cut) % size
    with (
        pytest.raises(AudioFileError, match=r"cannot write .*, found .*; .*free some space"),
        disk_of(limit),
    ):
        write_audio(path, noise, sample_rate=48_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("container", "channels", "sample_rate", "message"),
    [
        ("mp3", 3, 44100, "1 to 2 channels in MP3, got 3; choose WAV or FLAC or Ogg Vorbis"),
        ("mp3", 2, 44101, "44100 or 48000 Hz in MP3, got 44101 Hz; choose WAV or FLAC or Ogg V"),
        ("mp3", 2, 96000, "choose WAV or FLAC or Ogg Vorbis, or separate at 48000 Hz (--sr)"),
        ("opus", 2, 44100, "8000, 12000, 16000, 24000 or 48000 Hz in Opus, got 44100 Hz; choose"),
        ("opus", 2, 44100, "or Ogg Vorbis, or separate at 48000 Hz (--sr)"),
        ("opus", 6, 48000, "1 to 5 channels in Opus, got 6; choose WAV or FLAC"),
        ("ogg", 6, 48000, "1 to 5 channels in Ogg Vorbis, got 6; choose WAV or FLAC"),
        ("ogg", 9, 48000, "1 to 5 channels in Ogg Vorbis, got 9; choose WAV"),
        ("ogg", 2, 200_001, "up to 200000 Hz in Ogg Vorbis, got 200001 Hz; choose WAV"),
        ("ogg", 2, 0, "a sample rate of 1 Hz or more, got 0 Hz; correct it"),
        ("opus", 0, 48000, "1 to 5 channels in Opus, got 0; write one or more"),
    ],
)
def test_limits(
    tmp_path: Path, container: str, channels: int, sample_rate: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_output_format(container, None, channels, sample_rate)
    with pytest.raises(ConfigError, match=re.escape(message)):
        AudioWriter(tmp_path / f"x.{container}", sample_rate=sample_rate, channels=channels)


def test_no_other_rate_is_advised_where_channels_are_too_many() -> None:
    with pytest.raises(ConfigError, match="1 to 5 channels in Opus, got 6; choose") as raised:
        check_output_format("opus", None, 6, 44100)
    assert "--sr" not in str(raised.value)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("encoding", ["int16", "int24", "float32"])
def test_no_encoding_with_a_codec(container: str, encoding: str) -> None:
    with pytest.raises(ConfigError, match=rf"expected no encoding with .*, got {encoding}; leave"):
        check_output_format(container, encoding, 2, 48_000)


def test_codec_that_libsndfile_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "available_subtypes", lambda _: {})
    with pytest.raises(ConfigError, match=r"a libsndfile with MP3, got libsndfile .*; choose WAV"):
        check_output_format("mp3", None, 2, 48_000)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_24_bits_unless_asked_otherwise(tmp_path: Path, suffix: str) -> None:
    write_audio(tmp_path / f"x.{suffix}", tones(2, 100, 8000), sample_rate=8000)
    assert read_info(tmp_path / f"x.{suffix}").encoding == "int24"


def test_more_than_4_gib(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    start, gap, end = (tones(2, 5000, 48_000) + np.float32(i) for i in (0, 0, 1))
    far = 600_000_000  # frames of 8 bytes: 4.8 GB
    writer = AudioWriter(
        path, sample_rate=48_000, channels=2, encoding="float32", frames=far + 5000
    )
    with writer:
        writer.write(start)
        writer._file.seek(far)  # a hole: the disk holds none of it
        writer._frames = far
        writer.write(end)
    assert path.stat().st_size > 4.7e9
    if path.stat().st_blocks * 512 > 1e8:
        pytest.fail("the file has no hole")
    with path.open("rb") as file:
        content = file.read(80)
    assert (content[:4], content[8:16]) == (b"RF64", b"WAVEds64")
    assert struct.unpack_from("<Q", content, 28)[0] == 8 * (far + 5000)
    assert read_info(path) == AudioInfo(path, 48_000, 2, far + 5000, "wav", "float32")
    np.testing.assert_array_equal(read_audio(path, frames=5000)[0], start)
    np.testing.assert_array_equal(read_audio(path, start=far - 10)[0][:, 10:], end)
    part, _ = read_audio(path, start=550_000_000, frames=5000)  # beyond 4 GiB
    np.testing.assert_array_equal(part, 0 * gap)
