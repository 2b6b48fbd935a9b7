import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from sfisep_core.evaluation import block_toeplitz

LENGTH = 40


def lags_of(signals: np.ndarray) -> torch.Tensor:
    frames = signals.shape[1]
    found = [signals[:, : frames - k] @ signals[:, k:].T for k in range(LENGTH)]
    return torch.from_numpy(np.stack(found))


def dense(lags: torch.Tensor) -> np.ndarray:
    """The matrix itself, rows (delay, channel)."""
    size = lags.shape[1] * LENGTH
    gram = np.empty((LENGTH, lags.shape[1], LENGTH, lags.shape[1]))
    for a in range(LENGTH):
        for b in range(LENGTH):
            gram[a, :, b] = lags[a - b] if a >= b else lags[b - a].T
    return gram.reshape(size, size)


def coloured(channels: int, *, pole: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((channels, 3000))
    mixed = lfilter([1.0], [1.0, -pole], noise)
    return np.asarray(mixed + 0.5 * mixed[::-1])


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("pole", [0.0, 0.9, 0.999])
def test_solution_and_condition_are_those_of_the_dense_matrix(channels: int, pole: float) -> None:
    lags = lags_of(coloured(channels, pole=pole))
    right = torch.from_numpy(np.random.default_rng(1).standard_normal((1, LENGTH, channels, 3)))
    x, (condition,) = block_toeplitz.solve(lags[None], right)
    eigenvalues = np.linalg.eigvalsh(dense(lags))
    expected = np.linalg.solve(dense(lags), right.numpy().reshape(-1, 3))
    error = np.abs(x.numpy().reshape(-1, 3) - expected).max()
    assert error < 1e-14 * eigenvalues[-1] / eigenvalues[0] * np.abs(expected).max()
    assert float(condition) == pytest.approx(eigenvalues[-1] / eigenvalues[0], rel=0.02)


@pytest.mark.parametrize("level", [1e-2, 1e-3, 5e-4, 1e-4, 5e-5, 3.1e-5])
def test_nearly_singular_system_is_solved(level: float) -> None:
    signal = coloured(1, pole=0.9)
    noise = np.random.default_rng(2).standard_normal(signal.shape)
    lags = lags_of(np.concatenate([signal, signal + level * noise]))
    expected = np.random.default_rng(1).standard_normal((LENGTH * 2, 1))
    right = torch.from_numpy(dense(lags) @ expected).reshape(1, LENGTH, 2, 1)
    x, (condition,) = block_toeplitz.solve(lags[None], right)
    eigenvalues = np.linalg.eigvalsh(dense(lags))
    assert condition > 900 / level**2
    assert float(condition) == pytest.approx(eigenvalues[-1] / eigenvalues[0], rel=0.02)
    error = np.abs(x.numpy().reshape(-1, 1) - expected).max()
    assert error < 1e-15 * condition * np.abs(expected).max()


@pytest.mark.parametrize("level", [2e-5, 1e-5])
def test_condition_is_told_beyond_the_limit(level: float) -> None:
    signal = coloured(1, pole=0.9)
    noise = np.random.default_rng(2).standard_normal(signal.shape)
    lags = lags_of(np.concatenate([signal, signal + level * noise]))
    x, (condition,) = block_toeplitz.solve(lags[None], lags[None, :, :, :1])
    eigenvalues = np.linalg.eigvalsh(dense(lags))
    assert float(condition) == pytest.approx(eigenvalues[-1] / eigenvalues[0], rel=0.02)
    assert float(condition) > block_toeplitz.CONDITION_LIMIT
    assert bool(x.isfinite().all())


def test_systems_are_independent_of_each_other() -> None:
    lags = torch.stack([lags_of(coloured(2, pole=pole)) for pole in (0.2, 0.95)])
    right = torch.from_numpy(np.random.default_rng(1).standard_normal((2, LENGTH, 2, 1)))
    both, conditions = block_toeplitz.solve(lags, right)
    for number in range(2):
        own = slice(number, number + 1)
        one, condition = block_toeplitz.solve(lags[own], right[own])
        torch.testing.assert_close(both[own], one, rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(conditions[own], condition, rtol=1e-6, atol=0)


def test_singular_system_beside_another_leaves_that_alone() -> None:
    good, signal = coloured(2, pole=0.2), coloured(1, pole=0.5)
    lags = torch.stack([lags_of(np.concatenate([signal, signal])), lags_of(good)])
    right = torch.from_numpy(np.random.default_rng(1).standard_normal((2, LENGTH, 2, 1)))
    right[0] = lags[0, :, :, :1]
    both, conditions = block_toeplitz.solve(lags, right)
    one, condition = block_toeplitz.solve(lags[1:], right[1:])
    assert conditions[0] > block_toeplitz.CONDITION_LIMIT
    torch.testing.assert_close(both[1:], one, rtol=1e-9, atol=1e-15)
    assert float(conditions[1]) == pytest.approx(float(condition), rel=1e-6)


def test_singular_system_is_said_to_be_and_still_projected() -> None:
    signal = coloured(1, pole=0.5)
    lags = lags_of(np.concatenate([signal, 2 * signal]))
    # What is projected is channel 0 itself: with any solution, x0 + 2 x1 is a single impulse.
    x, (condition,) = block_toeplitz.solve(lags[None], lags[None, :, :, :1])
    assert condition > block_toeplitz.CONDITION_LIMIT
    impulse = (x[0, :, 0, 0] + 2 * x[0, :, 1, 0]).numpy()
    assert np.abs(impulse - np.eye(LENGTH)[0]).max() < 1e-8
