import numpy as np
import pytest
import torch
from scipy import signal

from sfisep_core.audio.windows import Window, evaluate_window

SIZE = 64
AT_SAMPLES = {
    "hann": torch.hann_window(SIZE, dtype=torch.float64).numpy(),
    "hann-symmetric": np.hanning(SIZE),
    "blackmanharris": signal.windows.blackmanharris(SIZE),
}


@pytest.mark.parametrize("name", AT_SAMPLES)
def test_windows_are_the_usual_ones_at_their_samples(name: Window) -> None:
    found = evaluate_window(name, 7 * torch.arange(-3, SIZE + 3), n_fft=SIZE, ticks_per_sample=7)
    expected = np.pad(AT_SAMPLES[name], 3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hann", np.sin(np.pi * 20.5 / 64) ** 2),
        ("hann-symmetric", np.sin(np.pi * 20.5 / 63) ** 2),
        (
            "blackmanharris",
            sum(a * np.cos(2 * np.pi * i * 20.5 / 63) for i, a in
                enumerate([0.35875, -0.48829, 0.14128, -0.01168])),
        ),
    ],
)  # fmt: skip
def test_windows_between_samples(name: Window, expected: float) -> None:
    found = evaluate_window(name, torch.tensor([41]), n_fft=SIZE, ticks_per_sample=2)
    assert found.item() == pytest.approx(expected, abs=1e-15)
