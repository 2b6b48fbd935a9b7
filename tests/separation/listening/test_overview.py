"""What is drawn of a recording, against signals whose drawings are known."""

import base64
import io
import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from PIL import Image

from sfisep_core.audio.mel import mel_bands, mel_power, mel_window
from sfisep_core.separation.listening.images import peaks_text, spectrogram_uris
from sfisep_core.separation.listening.overview import COLUMNS, read_overview

Signal = npt.NDArray[np.float32]


def write(path: Path, signal: Signal, sample_rate: int) -> Path:
    soundfile.write(path, signal.T, sample_rate, subtype="FLOAT")
    return path


def tone(frequency: float, seconds: float, sample_rate: int) -> Signal:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


@pytest.mark.slow
def test_peaks_are_the_extremes_of_all_channels(tmp_path: Path) -> None:
    signal = np.zeros((2, 300_000), dtype=np.float32)  # more than a block, 150 samples a column
    signal[0, [0, 149, 150, 262_144]] = 0.5, 0.25, 0.125, 1.0
    signal[1, [149, 299_999]] = -0.75, -0.5
    overview = read_overview(write(tmp_path / "x.wav", signal, 48000))
    expected = np.zeros((2, COLUMNS), dtype=np.float32)
    expected[1, [0, 1, 262_144 // 150]] = 0.5, 0.125, 1.0
    expected[0, [0, COLUMNS - 1]] = -0.75, -0.5
    np.testing.assert_array_equal(overview.peaks, expected)
    assert (overview.frames, overview.seconds, overview.channels) == (300_000, 6.25, 2)
    assert (overview.container, overview.encoding) == ("wav", "float32")


@pytest.mark.parametrize("frames", [0, 1, 10, 1999])
def test_short_recordings_have_a_column_for_each_sample(tmp_path: Path, frames: int) -> None:
    signal = np.linspace(-1, 1, frames, dtype=np.float32)[np.newaxis]
    overview = read_overview(write(tmp_path / "x.wav", signal, 44100))
    assert overview.peaks.shape == (2, max(frames, 1))
    np.testing.assert_array_equal(overview.peaks.sum(axis=0)[:frames], signal[0])
    assert overview.power.shape == (96, 1)
    assert np.isfinite(overview.power).all()


# 8 kHz for 600 s: half a window is 256 samples, 18,750 of them are fewer than 4 for each column
# twice; at 2500 s there are more, and windows lie farther apart.
@pytest.mark.parametrize(
    ("seconds", "hop"),
    [
        (3.0, 256),
        pytest.param(600.0, 512, marks=pytest.mark.slow),
        pytest.param(2500.0, 2304, marks=pytest.mark.slow),
    ],
)
def test_spectrogram_is_the_mean_over_the_windows_of_a_column(
    tmp_path: Path, seconds: float, hop: int
) -> None:
    frames = round(8000 * seconds) + 17
    signal = np.random.default_rng(0).normal(0, 0.1, (2, frames)).astype(np.float32)
    overview = read_overview(write(tmp_path / "x.wav", signal, 8000))
    count = min(COLUMNS, frames // hop)
    assert overview.power.shape == (mel_bands(8000), count)
    half = mel_window(8000) // 2
    whole = mel_power(np.pad(signal, ((0, 0), (half, half))), 8000, hop=hop).mean(axis=0)
    columns = np.minimum(np.arange(whole.shape[1]) * hop * count // frames, count - 1)
    for column in (0, count // 3, count - 1):
        expected = whole[:, columns == column].mean(axis=1)
        np.testing.assert_allclose(overview.power[:, column], expected, rtol=1e-3)


def test_spectrogram_shows_when_and_where_a_tone_sounds(tmp_path: Path) -> None:
    signal = np.zeros((2, 10 * 16000), dtype=np.float32)
    signal[:, 32000:96000] = tone(1000, 4, 16000)
    signal[1] *= -1  # channels of opposite signs are not silence
    power = read_overview(write(tmp_path / "x.wav", signal, 16000)).power
    columns = power.shape[1]
    sounding = slice(columns * 21 // 100, columns * 59 // 100)
    # Slaney's scale: 1 kHz is mel 15, 8 kHz mel 15 + 27 ln(8) / ln(6.4).
    top = 15 + 27 * np.log(8) / np.log(6.4)
    bands = mel_bands(16000)
    assert set(power[:, sounding].argmax(axis=0)) <= {
        round(15 / top * (bands + 1)) + offset for offset in (-2, -1, 0)
    }
    assert power[:, : columns * 19 // 100].max() == 0
    assert power[:, columns * 61 // 100 :].max() == 0
    np.testing.assert_allclose(power[:, sounding].max(axis=0), power.max(), rtol=0.01)


@pytest.mark.slow
def test_memory_does_not_depend_on_the_length(tmp_path: Path) -> None:
    block = np.zeros((60 * 8000, 1), dtype=np.int16)

    def peak(minutes: int) -> int:
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 8000, 1) as file:
            for _ in range(minutes):
                file.write(block)
        read_overview(path)  # what is imported once is no part of it
        tracemalloc.start()
        try:
            read_overview(path)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(40) < 1.1 * peak(10)


def test_files_beyond_4_gib_are_named_as_such(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(8), 8000, format="RF64")
    assert read_overview(tmp_path / "x.wav").container == "rf64"


def test_peaks_are_bytes() -> None:
    peaks = np.array([[-1.0, -0.5], [0.0, 2.0]], dtype=np.float32)
    values = np.frombuffer(base64.b64decode(peaks_text(peaks, largest=2.0)), dtype=np.int8)
    np.testing.assert_array_equal(values, [-64, -32, 0, 127])
    silent = base64.b64decode(peaks_text(np.zeros((2, 3), np.float32), largest=0.0))
    assert silent == bytes(6)


def test_spectrograms_have_one_scale() -> None:
    loud = np.full((8, 64), 1e-9, dtype=np.float32)
    loud[0] = 1.0  # the lowest band, at 0 dB
    quiet = np.full((8, 64), 1e-4, dtype=np.float32)  # the middle of 80 dB
    images = []
    for uri in spectrogram_uris([loud, quiet]):
        kind, data = uri.split(",")
        assert kind == "data:image/webp;base64"
        images.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")))
    assert images[0].shape == (8, 64, 3)
    brightness = [image.astype(float).sum(axis=-1).mean(axis=1) for image in images]
    assert brightness[0][-1] > 500  # low bands are at the bottom
    assert brightness[0][0] < 60
    np.testing.assert_allclose(brightness[1], brightness[1][0], atol=3)
    assert 200 < brightness[1][0] < 400
