import math

import numpy as np
import pytest

from sfisep_core.errors import ConfigError
from sfisep_core.evaluation.metrics import BSS_EVAL_METRICS, WHOLE_TRACK_METRICS, whole_track_scores
from sfisep_core.evaluation.ratios import si_sdr, snr

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


@pytest.mark.parametrize("noise", [0.001, 0.1, 1.0, 10.0])
def test_snr_of_added_noise_is_the_ratio_of_amplitudes(noise: float) -> None:
    score = snr(estimate=SINE + noise * OTHER, reference=SINE)
    assert score == pytest.approx(-20 * math.log10(noise), abs=1e-9)


@pytest.mark.parametrize("gain", [0.9, 0.0, -1.0, 11.0])
def test_snr_counts_a_wrong_gain(gain: float) -> None:
    score = snr(estimate=gain * SINE, reference=SINE)
    assert score == pytest.approx(-20 * math.log10(abs(1 - gain)), abs=1e-9)


def test_snr_at_its_limits() -> None:
    assert snr(estimate=SINE, reference=SINE) == math.inf
    assert math.isnan(snr(estimate=SINE, reference=np.zeros_like(SINE)))
    with pytest.raises(ConfigError, match=r"SNR: .*\(2, 4799\) and \(2, 4800\)"):
        snr(estimate=SINE[:, 1:], reference=SINE)


def _tone(frequency: float, *, sample_rate: int = 48000, amplitude: float = 1.0) -> np.ndarray:
    # 8000 samples need no zeros for a fast transform: tones of whole periods are one bin each.
    time = np.arange(8000) / sample_rate
    return amplitude * np.stack([np.sin(2 * np.pi * frequency * time)] * 2)


def test_each_band_has_the_noise_that_is_in_it() -> None:
    # A gain of 0.9 and noise of -20, -30 and -40 dB in the three parts of the spectrum.
    reference = _tone(1200)
    noise = (
        _tone(2400, amplitude=0.1),
        _tone(9000, amplitude=0.1**1.5),
        _tone(18000, amplitude=0.01),
    )
    scores = whole_track_scores(
        estimate=0.9 * reference + sum(noise), reference=reference, sample_rate=48000
    )
    for band, energy in (
        ("", 1e-2 + 1e-3 + 1e-4),
        ("_in_band", 1e-2 + 1e-3),
        ("_common_band", 1e-2),
    ):
        assert scores[f"si_sdr{band}"] == pytest.approx(10 * math.log10(0.81 / energy), abs=1e-9)
        assert scores[f"snr{band}"] == pytest.approx(-10 * math.log10(0.01 + energy), abs=1e-9)
    assert list(scores) == list(WHOLE_TRACK_METRICS)


@pytest.mark.parametrize("limit", [4000, 16000])
def test_band_holds_its_limit_and_nothing_above(limit: int) -> None:
    key = "snr_common_band" if limit == 4000 else "snr_in_band"
    reference = _tone(600)
    at, above = (
        whole_track_scores(
            estimate=reference + _tone(f, amplitude=0.1), reference=reference, sample_rate=48000
        )[key]
        for f in (limit - 2, limit + 4)
    )
    # 48000 / 8000 = 6 Hz between bins: of the next ones, 3996 and 4002, 15996 and 16002.
    assert at < 30
    assert above > at


def test_bands_that_reach_half_the_rate_are_the_full_band() -> None:
    generator = np.random.default_rng(0)
    reference, noise = generator.standard_normal((2, 2, 4001))
    for rate, same in ((8000, ("in_band", "common_band")), (32000, ("in_band",))):
        scores = whole_track_scores(
            estimate=reference + noise, reference=reference, sample_rate=rate
        )
        for band in same:
            assert scores[f"si_sdr_{band}"] == scores["si_sdr"]
            assert scores[f"snr_{band}"] == scores["snr"]


@pytest.mark.parametrize("frames", [4000, 4001, 7919])
def test_energies_of_a_spectrum_are_those_of_the_signal(frames: int) -> None:
    # The band up to just below half the rate leaves out the last bin alone, where these signals,
    # of white noise without its upper end, have next to nothing.
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((2, 2, frames // 2))
    reference, error = (np.repeat(x, 2, axis=-1) for x in noise)
    scores = whole_track_scores(
        estimate=reference + 0.1 * error, reference=reference, sample_rate=32002
    )
    assert scores["snr_in_band"] == pytest.approx(scores["snr"], abs=1e-4)
    assert scores["si_sdr_in_band"] == pytest.approx(scores["si_sdr"], abs=1e-4)


def test_band_without_anything_of_the_reference_has_no_score() -> None:
    scores = whole_track_scores(
        estimate=np.ones((1, 800)), reference=np.zeros((1, 800)), sample_rate=48000
    )
    assert all(map(math.isnan, scores.values()))
    with pytest.raises(ConfigError, match="the scores of a track: expected estimate and reference"):
        whole_track_scores(estimate=SINE, reference=SINE[:1], sample_rate=48000)


def test_every_score_says_what_it_is() -> None:
    both = WHOLE_TRACK_METRICS | BSS_EVAL_METRICS
    assert len({d.label for d in both.values()}) == len({d.definition for d in both.values()}) == 10
    assert WHOLE_TRACK_METRICS["snr_in_band"].label == "SNR to 16 kHz"
    assert WHOLE_TRACK_METRICS["si_sdr_common_band"].band_limit == 4000
