import numpy as np
import numpy.typing as npt
import pytest

from sfisep_core.audio.stores import MemoryStore
from sfisep_core.models.contract import GainRule
from sfisep_core.separation import gains

Samples = npt.NDArray[np.float32]


def least_squares_gains(stems: Samples, mixture: Samples) -> npt.NDArray[np.float64]:
    return gains.least_squares_gains(MemoryStore(stems), MemoryStore(mixture))


def apply_gain_rule(
    rule: GainRule, stems: Samples, mixture: Samples, *, sample_rate: int
) -> Samples:
    gains.apply_gain_rule(rule, MemoryStore(stems), MemoryStore(mixture), sample_rate=sample_rate)
    return stems


def noise(*shape: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def summed(stems: Samples, factors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray((stems * factors[:, :, None]).sum(axis=0))


def test_gains_of_a_true_sum_are_found() -> None:
    stems = noise(4, 2, 4000)
    true = np.array([[0.5, 2.0], [1.0, -3.0], [0.01, 100.0], [7.0, 0.0]])
    mixture = summed(stems, true).astype(np.float32)
    np.testing.assert_allclose(least_squares_gains(stems, mixture), true, atol=2e-6)


def test_gains_of_each_channel_solve_the_normal_equations() -> None:
    # Correlated stems that do not add up to the mixture.
    common = noise(1, 2, 3000, seed=1)
    stems = noise(4, 2, 3000) + common
    mixture = noise(2, 3000, seed=2) + 0.5 * common[0]
    gains = least_squares_gains(stems, mixture)
    assert gains.shape == (4, 2)
    assert gains.dtype == np.float64
    for channel in range(2):
        matrix = stems[:, channel].T.astype(np.float64)
        expected, *_ = np.linalg.lstsq(matrix, mixture[channel].astype(np.float64), rcond=None)
        np.testing.assert_allclose(gains[:, channel], expected, rtol=1e-9)


def test_orthogonal_stems_in_closed_form() -> None:
    stems = np.zeros((2, 1, 4), dtype=np.float32)
    stems[0, 0] = [1, 1, 0, 0]
    stems[1, 0] = [0, 0, 2, 0]
    mixture = np.array([[3, 1, 8, 5]], dtype=np.float32)
    # <stem, mixture> / <stem, stem>; the last sample can be reached by neither.
    np.testing.assert_allclose(least_squares_gains(stems, mixture), [[2], [4]], rtol=1e-12)


def test_silent_stem_has_gain_zero() -> None:
    stems = noise(3, 2, 500)
    stems[1, 0] = 0
    mixture = stems.sum(axis=0)
    gains = least_squares_gains(stems, mixture)
    np.testing.assert_allclose(gains, [[1, 1], [0, 1], [1, 1]], atol=1e-6)
    assert abs(gains[1, 0]) < 1e-12


@pytest.mark.parametrize("frames", [0, 1, 500])
def test_silence_everywhere(frames: int) -> None:
    stems = np.zeros((4, 2, frames), dtype=np.float32)
    mixture = noise(2, frames)
    np.testing.assert_array_equal(least_squares_gains(stems, mixture), np.zeros((4, 2)))
    loud = noise(4, 2, frames) if frames > 4 else stems
    silence = np.zeros((2, frames), dtype=np.float32)
    np.testing.assert_array_equal(least_squares_gains(loud, silence), np.zeros((4, 2)))


def test_equal_stems_share_equally() -> None:
    one, other = noise(1, 500), noise(1, 500, seed=1)
    stems = np.stack([one, other, one, one])
    mixture = 3 * one + 2 * other
    np.testing.assert_allclose(least_squares_gains(stems, mixture), [[1], [2], [1], [1]], atol=1e-6)


def test_copies_of_different_scale_give_equal_shares_of_the_mixture() -> None:
    one = noise(1, 500)
    stems = np.stack([one, 4 * one])
    gains = least_squares_gains(stems, one)
    np.testing.assert_allclose(gains, [[0.5], [0.125]], rtol=1e-6)


def test_fewer_samples_than_stems_still_add_up() -> None:
    stems, mixture = noise(4, 2, 2), noise(2, 2, seed=1)
    gains = least_squares_gains(stems, mixture)
    np.testing.assert_allclose(summed(stems, gains), mixture, atol=1e-6)
    for channel in range(2):
        normal = stems[:, channel].astype(np.float64)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        smallest = np.linalg.pinv(normal.T) @ mixture[channel]
        lengths = np.linalg.norm(stems[:, channel].astype(np.float64), axis=1)
        np.testing.assert_allclose(gains[:, channel] * lengths, smallest, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10])
def test_scale_of_the_stems_does_not_matter(scale: float) -> None:
    stems, mixture = noise(4, 2, 1000), noise(2, 1000, seed=1)
    expected = summed(stems, least_squares_gains(stems, mixture))
    scales = np.array([scale, 1.0, scale**-0.5, scale], dtype=np.float64)[:, None, None]
    scaled = (stems * scales).astype(np.float32)
    gains = least_squares_gains(scaled, mixture)
    found = summed(scaled.astype(np.float64), gains)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_least_squares_rule_gives_float32_stems(scale: float) -> None:
    stems = noise(4, 2, 1000)
    mixture = stems.sum(axis=0)
    found = apply_gain_rule(
        "least-squares", (stems * scale).astype(np.float32), mixture, sample_rate=8000
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, stems, atol=1e-5)


@pytest.mark.parametrize("frames", [0, 1, 2, 3000])
@pytest.mark.parametrize("kind", ["noise", "silent stems", "silence"])
def test_consistent_rule_adds_up_exactly(frames: int, kind: str) -> None:
    stems, mixture = noise(4, 2, frames), noise(2, frames, seed=1)
    if kind != "noise":
        stems[:] = 0
    if kind == "silence":
        mixture[:] = 0
    found = apply_gain_rule("mixture-consistent", stems.copy(), mixture, sample_rate=8000)
    assert found.shape == stems.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=0), mixture, atol=1e-5)
    if kind == "silent stems":
        np.testing.assert_allclose(found, np.stack([mixture / 4] * 4), rtol=1e-5)
    if kind == "silence":
        assert not found.any()


def test_consistent_rule_leaves_consistent_stems() -> None:
    stems = noise(4, 2, 3000)
    found = apply_gain_rule("mixture-consistent", stems, stems.sum(axis=0), sample_rate=8000)
    np.testing.assert_allclose(found, stems, atol=1e-5)


@pytest.mark.parametrize("rule", ["least-squares", "mixture-consistent"])
@pytest.mark.parametrize("block", [1000, 3333, 8001])
def test_blocks_change_nothing(rule: GainRule, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    stems = rng.standard_normal((3, 2, 8001)).astype(np.float32)
    stems[0, :, 2000:5000] = 0.0
    mixture = rng.standard_normal((2, 8001)).astype(np.float32)
    whole = apply_gain_rule(rule, stems.copy(), mixture, sample_rate=8000)
    monkeypatch.setattr(gains, "BLOCK_FRAMES", block)
    blocks = apply_gain_rule(rule, stems.copy(), mixture, sample_rate=8000)
    np.testing.assert_allclose(blocks, whole, atol=1e-5)
    if rule == "mixture-consistent":
        np.testing.assert_allclose(blocks.sum(axis=0), mixture, atol=1e-5)
