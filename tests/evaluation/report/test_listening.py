import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from sfisep_core.evaluation.report.listening import (
    audio_uri,
    common_gain,
    excerpt,
    mel_db,
)
from tests.evaluation.report.conftest import SOURCES, make_example


def decode(uri: str) -> tuple[np.ndarray, int]:
    kind, data = uri.split(",", 1)
    assert kind == "data:audio/flac;base64"
    samples, sample_rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="int16")
    return samples.T / 32768, sample_rate


@pytest.mark.parametrize("sample_rate", [8000, 11025, 44100, 44101, 192000])
def test_player_gives_the_samples_back_to_16_bits(sample_rate: int) -> None:
    signal = np.random.default_rng(0).uniform(-1, 1, (2, 500)).astype(np.float32)
    signal[:, :3] = 1.0, -1.0, 0.5
    samples, found_rate = decode(audio_uri(signal, sample_rate))
    assert found_rate == sample_rate
    np.testing.assert_array_equal(samples[:, :3], [[32767 / 32768, -1.0, 0.5]] * 2)
    assert np.abs(samples - np.minimum(signal, 32767 / 32768)).max() <= 0.5 / 32768


@pytest.mark.slow
def test_one_gain_for_all_signals() -> None:
    pytest.importorskip("matplotlib")
    example = make_example()
    peak = np.abs(example.mixture).max()
    assert common_gain(example) == pytest.approx(32767 / 32768 / peak)
    shown = excerpt(example)
    assert shown.attenuation_db == pytest.approx(20 * np.log10(peak * 32768 / 32767))
    assert shown.attenuation_db == pytest.approx(20 * np.log10(1.8), abs=0.05)  # two tones of 0.9
    assert shown.columns == ["reference", "native", "resample"]
    players = [player for row in shown.rows for player in row.players if player is not None]
    assert [player.label for player in players] == [
        "mixture",
        "vocals, reference",
        "vocals, native",
        "vocals, resample",
        "bass & drums, reference",
        "bass & drums, native",
    ]
    signals = [
        example.mixture,
        example.references[SOURCES[0]],
        example.estimates["native"][SOURCES[0]],
    ]
    for player, signal in zip(players, signals, strict=False):
        assert np.abs(decode(player.sound)[0] - common_gain(example) * signal).max() < 0.6 / 32768


def test_quiet_examples_are_left_alone() -> None:
    example = make_example()
    quiet = replace(
        example,
        mixture=0.1 * example.mixture,
        references={name: 0.1 * stem for name, stem in example.references.items()},
        estimates={},
    )
    silent = replace(quiet, mixture=np.zeros((1, 10), np.float32), references={})
    assert common_gain(quiet) == common_gain(silent) == 1.0


def test_missing_estimates_have_no_player() -> None:
    pytest.importorskip("matplotlib")
    shown = excerpt(make_example())
    assert [(row.source, [p is not None for p in row.players]) for row in shown.rows] == [
        ("mixture", [True]),
        ("vocals", [True, True, True]),
        ("bass & drums", [True, True, False]),
    ]


@pytest.mark.parametrize("sample_rate", [4000, 8000, 11025, 48000, 384000])
def test_spectrogram_of_a_tone(sample_rate: int) -> None:
    frequency = sample_rate / 8
    time = np.arange(sample_rate) / sample_rate
    tone = np.stack([np.sin(2 * np.pi * frequency * time)] * 2).astype(np.float32)
    levels = mel_db(tone, sample_rate)
    peak = levels.mean(axis=1).argmax() / levels.shape[0]

    def mel(hertz: float) -> float:  # Slaney's: linear to 1 kHz, logarithmic above
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)

    assert peak == pytest.approx(mel(frequency) / mel(sample_rate / 2), abs=0.03)
    np.testing.assert_allclose(mel_db(10 * tone, sample_rate).max() - levels.max(), 20, atol=0.01)


def test_spectrogram_of_silence_and_of_next_to_nothing() -> None:
    np.testing.assert_allclose(mel_db(np.zeros((1, 4000), np.float32), 8000), -120, atol=1e-4)
    assert mel_db(np.ones((1, 1), np.float32), 8000).shape == (64, 3)
