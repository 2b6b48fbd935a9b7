import numpy as np
import pytest

from sfisep_core.evaluation import oracle
from sfisep_core.evaluation.oracle import ideal_ratio_mask
from sfisep_core.evaluation.ratios import si_sdr

RATE = 16000


def tones(*frequencies: float) -> np.ndarray:
    time = np.arange(2 * RATE) / RATE
    return np.stack([np.sin(2 * np.pi * f * time) for f in frequencies])


def test_sources_that_share_no_frequency_are_separated() -> None:
    references = tones(440, 3000, 5000)[:, None].repeat(2, axis=1).astype(np.float32)
    found = ideal_ratio_mask(references, references.sum(0), sample_rate=RATE)
    for estimate, reference in zip(found, references, strict=True):
        inside = np.s_[:, 2000:-2000]  # where a tone begins it has all frequencies
        assert si_sdr(estimate=estimate[inside], reference=reference[inside]) > 80


def test_sources_of_equal_spectrum_get_equal_shares() -> None:
    tone = tones(440)[:, None].astype(np.float32)
    references = np.concatenate([tone, 2 * tone])
    found = ideal_ratio_mask(references, references.sum(0), sample_rate=RATE)
    # Powers are 1 : 4, of a mixture of 3.
    np.testing.assert_allclose(found[0], 3 / 5 * tone[0], atol=1e-5)
    np.testing.assert_allclose(found[1], 12 / 5 * tone[0], atol=1e-5)


@pytest.mark.parametrize("frames", [1, 100, 2047, 12345])
def test_estimates_sum_to_the_mixture(frames: int) -> None:
    generator = np.random.default_rng(0)
    references = generator.standard_normal((3, 2, frames)).astype(np.float32)
    references[1] = 0
    mixture = references.sum(0) + generator.standard_normal((2, frames)).astype(np.float32)
    found = ideal_ratio_mask(references, mixture, sample_rate=11025)
    np.testing.assert_allclose(found.sum(0), mixture, atol=1e-5)


def test_silence_is_shared_alike() -> None:
    mixture = np.random.default_rng(0).standard_normal((1, 500)).astype(np.float32)
    found = ideal_ratio_mask(np.zeros((4, 1, 500), np.float32), mixture, sample_rate=8000)
    np.testing.assert_allclose(found, np.stack([mixture / 4] * 4), atol=1e-6)


def test_segments_are_those_of_the_whole_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    references = np.random.default_rng(0).standard_normal((3, 2, 40000)).astype(np.float32)
    whole = ideal_ratio_mask(references, references.sum(0), sample_rate=8000)
    monkeypatch.setattr(oracle, "_SEGMENT_SECONDS", 1)
    cut = ideal_ratio_mask(references, references.sum(0), sample_rate=8000)
    np.testing.assert_allclose(cut, whole, atol=1e-5)
