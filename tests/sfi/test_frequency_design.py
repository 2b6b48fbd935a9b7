import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sfisep_core.sfi import ModulatedGaussianFilters, SFIConv1d
from sfisep_core.sfi.frame_grid import Alignment, frame_grid
from sfisep_core.sfi.frequency_design import frequency_design, least_squares_taps


def pseudo_inverse_taps(response: Tensor, positions: Tensor) -> Tensor:
    """Solve the stacked real system sum_p h[p] e^{-j pi m p / (M - 1)} = R_m as the paper does."""
    count = response.shape[-1]
    angles = np.outer(np.linspace(0, np.pi, count), positions.numpy())
    system = np.concatenate([np.cos(angles), -np.sin(angles)])
    wanted = np.concatenate([response.real.numpy(), response.imag.numpy()], axis=-1)
    return torch.from_numpy(wanted @ np.linalg.pinv(system).T)


@pytest.mark.parametrize("num_taps", [1, 2, 3, 40, 81])
@pytest.mark.parametrize("num_samples", [100, 101])
@pytest.mark.parametrize("first", [None, 0, -7])
def test_closed_form_equals_the_pseudo_inverse(
    num_taps: int, num_samples: int, first: int | None
) -> None:
    generator = torch.Generator().manual_seed(num_taps)
    response = torch.randn(3, num_samples, dtype=torch.complex128, generator=generator)
    start = -((num_taps - 1) // 2) if first is None else first
    positions = torch.arange(num_taps).double() + start
    expected = pseudo_inverse_taps(response, positions)
    actual = least_squares_taps(response, positions)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("num_taps", "num_samples"), [(40, 640), (41, 64), (60, 40), (78, 40)])
def test_taps_are_recovered_from_their_own_response(num_taps: int, num_samples: int) -> None:
    taps = torch.randn(2, num_taps, generator=torch.Generator().manual_seed(1)).double()
    positions = torch.arange(num_taps).double() - num_taps // 2
    frequencies = torch.linspace(0, math.pi, num_samples, dtype=torch.float64)
    response = (taps + 0j) @ torch.exp(-1j * torch.outer(positions, frequencies))
    torch.testing.assert_close(least_squares_taps(response, positions), taps, rtol=0, atol=1e-12)


def test_released_taps_are_the_pseudo_inverse_of_the_analog_response() -> None:
    torch.manual_seed(0)
    filters = ModulatedGaussianFilters(5).requires_grad_(False)
    for rate, positions in (
        (8000, range(-19, 21)),
        (10000, range(-24, 26)),
        (25000, range(-62, 63)),
    ):
        grid = frame_grid(
            sample_rate=rate, native_rate=32000, kernel_size=160, stride=80, alignment="release"
        )
        frequencies = torch.linspace(0, math.pi * rate, 640, dtype=torch.float64)
        expected = pseudo_inverse_taps(
            filters.frequency_response(frequencies), torch.tensor(positions).double()
        )
        actual = frequency_design(filters, grid, native_rate=32000, num_response_samples=640)
        torch.testing.assert_close(actual, expected[None], rtol=0, atol=1e-12)


def centre_gains(
    sample_rate: int,
    centers_hz: list[float],
    num_response_samples: int,
    alignment: Alignment = "exact",
) -> Tensor:
    torch.manual_seed(3)
    filters = ModulatedGaussianFilters(len(centers_hz))
    with torch.no_grad():
        filters.center.copy_(2 * math.pi * torch.tensor(centers_hz))
    layer = SFIConv1d(
        1,
        len(centers_hz),
        filters,
        design="frequency",
        num_response_samples=num_response_samples,
        alignment=alignment,
    ).eval()
    with torch.no_grad():
        taps = layer.taps(sample_rate)[0].double()
    steps = torch.arange(taps.shape[-1]).double() / sample_rate
    tones = torch.exp(2j * torch.pi * torch.outer(torch.tensor(centers_hz).double(), steps))
    return (taps * tones).sum(dim=-1).abs()


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [48000, 192000, 384000])
def test_gain_at_the_center_is_that_of_the_native_rate(sample_rate: int) -> None:
    centers = [500.0, 1000.0, 4000.0, 9000.0]
    # A Gaussian of 100 Hz cut to 5 ms passes erf(sigma T / sqrt 8) = 0.884 of its center.
    expected = math.erf(2 * math.pi * 100 * 0.005 / math.sqrt(8))
    torch.testing.assert_close(
        centre_gains(sample_rate, centers, 640),
        torch.full((4,), expected).double(),
        rtol=0,
        atol=0.006,
    )


def test_response_is_sampled_at_no_fewer_frequencies_than_twice_the_taps() -> None:
    # 384 kHz has 1920 taps: M = 640 must give what M = 3840 gives.
    few, enough = (centre_gains(384000, [1000.0], count, "release") for count in (640, 3840))
    torch.testing.assert_close(few, enough, rtol=0, atol=0)
    assert enough.item() == pytest.approx(0.884, abs=0.003)
    # The ratio of taps to samples at 384 kHz, in small: 240 taps and M = 80. The pseudo-inverse
    # then gives the smallest of many answers, with about half the gain.
    grid = frame_grid(
        sample_rate=48000, native_rate=32000, kernel_size=160, stride=80, alignment="release"
    )
    filters = ModulatedGaussianFilters(1, lowest_hz=1000, highest_hz=1000).requires_grad_(False)
    filters.phase.fill_(0.7)
    frequencies = torch.linspace(0, math.pi * 48000, 80, dtype=torch.float64)
    positions = torch.arange(240).double() - 119
    starved = pseudo_inverse_taps(filters.frequency_response(frequencies), positions)[0]
    wave = torch.exp(-2j * torch.pi * 1000 / 48000 * positions)
    assert (starved * wave).sum().abs().item() < 0.6
    fitted = frequency_design(filters, grid, native_rate=32000, num_response_samples=80)[0, 0]
    assert (fitted * wave).sum().abs().item() == pytest.approx(0.884, abs=0.003)
