"""What the Python API refuses, and what it says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sfisep_core.errors import ConfigError
from sfisep_core.separation.checks import check_block, check_samples, read_recording
from sfisep_core.separation.separator import Separator
from tests.separation.divider import Divider, noise

EXPECTED = r"expected shape \(channel, time\) with at most 64 channels, got "


@pytest.mark.parametrize("shape", [(64, 64), (64, 1000), (2, 2), (1, 1), (5,), (0,), (2, 0)])
def test_channels_in_front_are_taken(shape: tuple[int, ...]) -> None:
    samples = noise(*shape)
    assert check_samples(samples) is samples


@pytest.mark.parametrize("shape", [(65, 65), (65, 1000), (44100, 2), (441, 1), (65, 0)])
def test_channels_behind_are_refused(shape: tuple[int, int]) -> None:
    channels, frames = shape
    message = (
        rf"^samples: {EXPECTED}\({channels}, {frames}\), which is {channels} channels of {frames} "
        r"samples: pass x\.T if it is \(time, channel\), as soundfile\.read gives it$"
    )
    with pytest.raises(ConfigError, match=message):
        check_samples(noise(*shape))


@pytest.mark.parametrize("shape", [(2, 1), (64, 63), (40, 2)])
def test_fewer_samples_than_channels_may_be_either(shape: tuple[int, int]) -> None:
    message = rf"pass x\.T .*; if it is that short, append zeros up to {shape[0]} samples$"
    with pytest.raises(ConfigError, match=message):
        check_samples(noise(*shape))


def test_values_are_not_looked_at_before_the_shape() -> None:
    with pytest.raises(ConfigError, match=EXPECTED):
        check_samples(np.full((44100, 2), np.nan))


def test_what_soundfile_reads_is_refused_before_any_work(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", noise(44100, 2), 44100)
    model = Divider()
    with pytest.raises(ConfigError, match=r"got \(44100, 2\), .*pass x\.T"):
        Separator(model, device="cpu").separate(soundfile.read(tmp_path / "song.wav"))
    assert model.heard == []


def test_blocks_may_be_shorter_than_they_have_channels() -> None:
    assert check_block(noise(2, 1)).shape == (2, 1)
    assert check_block(noise(2, 0)).shape == (2, 0)
    with pytest.raises(ConfigError, match=rf"^block: {EXPECTED}\(1024, 2\)"):
        check_block(noise(1024, 2))
    with pytest.raises(ConfigError, match=rf"^block: {EXPECTED}\(1024, 2\)"):
        next(Separator(Divider(), device="cpu").stream([noise(1024, 2)], sample_rate=8000))


@pytest.mark.parametrize(
    ("source", "got"),
    [
        (noise(2, 100), r"an array of shape \(2, 100\)"),
        ([0.0, 0.1], "list"),
        ((noise(2, 100),), "tuple"),
        (None, "NoneType"),
    ],
)
def test_array_without_its_rate(source: Any, got: str) -> None:
    message = (
        rf"^source: expected a path or \(samples, sampling frequency in Hz\), got {got}: an array "
        r"does not say its sampling frequency; pass both, as in separate\(\(x, 44100\)\); the "
        r"argument sample_rate is the rate to separate at$"
    )
    with pytest.raises(ConfigError, match=message):
        read_recording(source)
    with pytest.raises(ConfigError, match=message):
        Separator(Divider(), device="cpu").separate(source, sample_rate=8000)
