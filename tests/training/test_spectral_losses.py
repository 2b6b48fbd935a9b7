import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from sfisep_core.training.spectral_losses import complex_mse_loss, magnitude_l1_loss, spectra

RATE, SECONDS = 8000, 0.016
SIZE, HOP = 128, 32  # of SECONDS at RATE


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def transform(signals: Tensor) -> npt.NDArray[np.complex128]:
    """Transform with a periodic Hann window, shape (..., bin, frame), in NumPy."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
    frames = np.lib.stride_tricks.sliding_window_view(signals.numpy(), SIZE, axis=-1)[..., ::HOP, :]
    return np.asarray(np.swapaxes(np.fft.rfft(frames * window), -1, -2))


def loss(function: Any, estimates: Tensor, references: Tensor, seconds: float = SECONDS) -> Tensor:
    result = function(
        estimates=estimates, references=references, sample_rate=RATE, window_seconds=seconds
    )
    assert isinstance(result, Tensor)
    return result


def test_spectra_are_those_of_a_window_of_unit_energy() -> None:
    signals = noise(2, 3, 1000)
    expected = transform(signals) / math.sqrt(3 / 8 * SIZE)  # energy of a Hann window
    found = spectra(signals, seconds=SECONDS, sample_rate=RATE).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # One frame at least, of what is there and then silence; and windows of 4 samples at least.
    assert spectra(signals[..., :5], seconds=SECONDS, sample_rate=RATE).shape == (2, 3, 65, 1)
    assert spectra(signals, seconds=1e-9, sample_rate=RATE).shape == (2, 3, 3, 997)


def test_power_of_noise_is_the_same_in_bins_and_samples() -> None:
    power = spectra(noise(1, 200_000), seconds=SECONDS, sample_rate=RATE).abs().square().mean()
    assert power.item() == pytest.approx(1.0, rel=0.02)


def test_complex_mse_is_the_mean_squared_error_of_spectra() -> None:
    references, estimates = noise(2, 3, 2, 1000), noise(2, 3, 2, 1000, seed=1)
    e, s, x = transform(estimates), transform(references), transform(references.sum(1))
    expected = [
        [np.mean(np.abs(e[b, i] - s[b, i]) ** 2) / np.mean(np.abs(x[b]) ** 2) for i in range(3)]
        for b in range(2)
    ]
    found = loss(complex_mse_loss, estimates, references)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("seconds", [0.008, 0.064, 0.2])
def test_complex_mse_hardly_depends_on_the_window(seconds: float) -> None:
    references = noise(1, 2, 1, 40_000)
    error = 0.1 * noise(1, 2, 1, 40_000, seed=1)
    found = loss(complex_mse_loss, references + error, references, seconds)
    expected = error.square().mean((2, 3)) / references.sum(1).square().mean()
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)


def test_magnitude_l1_is_the_mean_absolute_error_of_magnitudes() -> None:
    references, estimates = noise(2, 3, 2, 1000), noise(2, 3, 2, 1000, seed=1)
    e, s, x = (abs(transform(signal)) for signal in (estimates, references, references.sum(1)))
    expected = [
        [np.mean(np.abs(e[b, i] - s[b, i])) / np.mean(x[b]) for i in range(3)] for b in range(2)
    ]
    found = loss(magnitude_l1_loss, estimates, references)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_phase_matters_to_one_of_them() -> None:
    references = noise(1, 1, 1, 1000)
    assert loss(magnitude_l1_loss, -references, references).item() == pytest.approx(0, abs=1e-12)
    assert loss(complex_mse_loss, -references, references).item() == pytest.approx(4)
