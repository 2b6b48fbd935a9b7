import math

import numpy as np
import pytest

from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.metrics import level_db, si_sdr

FRAMES = 4800
_PHASE = 2 * np.pi * np.arange(FRAMES) / FRAMES
# Whole periods of different tones are orthogonal, and each has a mean square of 1/2.
SINE = np.stack([np.sin(3 * _PHASE), np.sin(7 * _PHASE)])
OTHER = np.stack([np.sin(5 * _PHASE), np.cos(7 * _PHASE)])


@pytest.mark.parametrize("noise", [0.001, 0.1, 1.0, 10.0])
def test_si_sdr_of_orthogonal_noise_is_the_ratio_of_amplitudes(noise: float) -> None:
    score = si_sdr(estimate=SINE + noise * OTHER, reference=SINE)
    assert score == pytest.approx(-20 * math.log10(noise), abs=1e-9)


def test_si_sdr_of_the_mixture_of_two_equal_orthogonal_stems_is_zero() -> None:
    assert si_sdr(estimate=SINE + OTHER, reference=SINE) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 0.25, -1.0, 3.7, 1e6])
def test_si_sdr_ignores_the_scale_of_estimate_and_reference(scale: float) -> None:
    estimate = SINE + 0.1 * OTHER
    assert si_sdr(estimate=scale * estimate, reference=SINE) == pytest.approx(20.0, abs=1e-9)
    assert si_sdr(estimate=estimate, reference=scale * SINE) == pytest.approx(20.0, abs=1e-9)


def test_si_sdr_counts_the_part_of_the_noise_along_the_reference_as_target() -> None:
    # e = s + (s + n) / 2: the target is 1.5 s, the distortion 0.5 n.
    score = si_sdr(estimate=SINE + 0.5 * (SINE + OTHER), reference=SINE)
    assert score == pytest.approx(20 * math.log10(3.0), abs=1e-9)


def test_si_sdr_has_one_scale_for_all_channels() -> None:
    # Channel 0 is right, channel 1 missing. e = (s0, 0), s = (s0, s1) of equal energies: the
    # target is s / 2 and the distortion (s0, -s1) / 2, of the same energy.
    estimate = SINE * np.array([[1.0], [0.0]])
    assert si_sdr(estimate=estimate, reference=SINE) == pytest.approx(0.0, abs=1e-9)


def test_si_sdr_of_float32_is_computed_in_float64() -> None:
    # In float32 the energy of 2e6 samples and a distortion of -100 dB would drown in rounding.
    reference = np.tile(np.array([1.0, -1.0], dtype=np.float32), 10**6)
    noise = np.tile(np.array([1.0, 1.0], dtype=np.float32), 10**6) * np.float32(2**-17)
    score = si_sdr(estimate=reference + noise, reference=reference)
    assert score == pytest.approx(20 * 17 * math.log10(2), abs=1e-9)


@pytest.mark.parametrize("scale", [1.0, -0.5, 4.0])
def test_si_sdr_of_a_perfect_estimate_is_infinite(scale: float) -> None:
    assert si_sdr(estimate=scale * SINE, reference=SINE) == math.inf


def test_si_sdr_of_a_perfect_estimate_up_to_rounding_is_beyond_all_real_scores() -> None:
    assert si_sdr(estimate=0.3 * SINE, reference=SINE) > 290.0


def test_si_sdr_of_a_silent_reference_is_undefined() -> None:
    assert math.isnan(si_sdr(estimate=SINE, reference=np.zeros_like(SINE)))
    assert math.isnan(si_sdr(estimate=np.zeros_like(SINE), reference=np.zeros_like(SINE)))


def test_si_sdr_of_a_silent_estimate_is_minus_infinity() -> None:
    assert si_sdr(estimate=np.zeros_like(SINE), reference=SINE) == -math.inf


def test_si_sdr_refuses_different_shapes() -> None:
    with pytest.raises(ConfigError, match=r"\(2, 4799\) and \(2, 4800\)"):
        si_sdr(estimate=SINE[:, 1:], reference=SINE)


@pytest.mark.parametrize("scale", [1e-5, 0.25, 1.0, 10.0])
def test_level_is_the_ratio_of_rms_values(scale: float) -> None:
    level = level_db(signal=-scale * SINE, relative_to=SINE)
    assert level == pytest.approx(20 * math.log10(scale), abs=1e-9)


def test_level_does_not_depend_on_the_lengths() -> None:
    level = level_db(signal=np.full((1, 10), 0.1), relative_to=np.ones((2, 1000)))
    assert level == pytest.approx(-20.0, abs=1e-9)


def test_level_of_silence_is_minus_infinity() -> None:
    assert level_db(signal=np.zeros((2, 8)), relative_to=SINE) == -math.inf
    assert level_db(signal=np.zeros((2, 0)), relative_to=SINE) == -math.inf


def test_level_relative_to_silence_is_undefined() -> None:
    assert math.isnan(level_db(signal=SINE, relative_to=np.zeros_like(SINE)))
