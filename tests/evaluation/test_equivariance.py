import math

import numpy as np
import pytest

from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.equivariance import equivariance_db

RATE = 8000


def tone(frequency: float, *, seconds: float = 2.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sin(2 * np.pi * frequency * time)[None, None].astype(np.float32)


def test_difference_is_relative_to_the_stems_of_the_native_rate() -> None:
    stems = tone(400)
    found = equivariance_db(stems + 0.1 * tone(700), stems, sample_rate=RATE, native_rate=RATE)
    assert found == pytest.approx(-20, abs=1e-4)


@pytest.mark.parametrize(
    ("frequency", "native_rate", "counts"),
    [(3500, 8000, True), (3700, 8000, False), (1700, 4000, True), (1900, 4000, False)],
)
def test_only_what_both_rates_hold_counts(frequency: int, native_rate: int, counts: bool) -> None:
    stems = tone(400)
    moved = stems + 0.1 * tone(frequency)
    found = equivariance_db(moved, stems, sample_rate=RATE, native_rate=native_rate)
    assert found == pytest.approx(-20, abs=1e-3) if counts else found < -100


def test_stems_are_taken_together() -> None:
    stems = np.concatenate([tone(400), 3 * tone(500)])
    moved = stems + np.concatenate([tone(600), np.zeros_like(tone(600))])
    found = equivariance_db(moved, stems, sample_rate=RATE, native_rate=RATE)
    assert found == pytest.approx(-10, abs=1e-4)


def test_limits() -> None:
    silence = np.zeros((2, 1, 100), np.float32)
    assert equivariance_db(tone(1), tone(1), sample_rate=RATE, native_rate=RATE) == -math.inf
    assert math.isnan(equivariance_db(silence + 1, silence, sample_rate=RATE, native_rate=RATE))
    with pytest.raises(ConfigError, match="one shape"):
        equivariance_db(silence, silence[:1], sample_rate=RATE, native_rate=RATE)
