import math

import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.sfi import ModulatedGaussianFilters, MultiPhaseGammatoneFilters
from sfisep_core.sfi.analog_filters import erb_spaced

TWO_PI = 2 * math.pi


def gaussian(
    centers_hz: list[float], *, sigma_hz: float = 100.0, phase: float = 0.7
) -> ModulatedGaussianFilters:
    filters = ModulatedGaussianFilters(len(centers_hz)).double()
    with torch.no_grad():
        filters.center.copy_(TWO_PI * torch.tensor(centers_hz).double())
        filters.ln_sigma2.fill_(2 * math.log(TWO_PI * sigma_hz))
        filters.phase.fill_(phase)
    return filters.requires_grad_(False)


def test_erb_spacing_is_even_on_the_scale_of_the_paper() -> None:
    centers = erb_spaced(lowest_hz=50, highest_hz=16000, count=440)
    scale = 9.265 * torch.log(1 + centers / (24.7 * 9.265))
    step = 9.265 * math.log((1 + 16000 / 228.8455) / (1 + 50 / 228.8455)) / 439
    torch.testing.assert_close(
        scale.diff(), torch.full((439,), step, dtype=torch.float64), rtol=1e-9, atol=0
    )
    torch.testing.assert_close(centers[[0, -1]], torch.tensor([50.0, 16000.0]).double())


def test_one_center_is_the_lowest() -> None:
    assert erb_spaced(lowest_hz=440, highest_hz=880, count=1).tolist() == [pytest.approx(440)]


@pytest.mark.parametrize(("low", "high", "count"), [(50, 16000, 0), (-1, 10, 3), (20, 10, 3)])
def test_empty_ranges_are_refused(low: float, high: float, count: int) -> None:
    with pytest.raises(ConfigError, match=f"got {count} from {low} to {high} Hz"):
        erb_spaced(lowest_hz=low, highest_hz=high, count=count)


# Modulated Gaussians


def test_gaussians_start_as_published() -> None:
    torch.manual_seed(0)
    filters = ModulatedGaussianFilters(440)
    torch.testing.assert_close(
        filters.centers_hz(),
        erb_spaced(lowest_hz=50, highest_hz=16000, count=440),
        rtol=1e-6,
        atol=0,
    )
    assert filters.bandwidths_hz().tolist() == [pytest.approx(100, rel=1e-6)] * 440
    assert 0 <= filters.phase.min() < 0.05
    assert math.pi - 0.05 < filters.phase.max() < math.pi
    assert filters.num_filters == 440
    shapes = {name: p.shape for name, p in filters.named_parameters()}
    assert shapes == {"center": (440,), "ln_sigma2": (440,), "phase": (440,)}


@pytest.mark.parametrize("sigma_hz", [60.0, 100.0, 400.0])
@pytest.mark.parametrize("phase", [0.0, 0.7, math.pi / 2, 3.0])
def test_impulse_response_is_two_pi_times_the_inverse_transform(
    sigma_hz: float, phase: float
) -> None:
    filters = gaussian([0.0, 130.0, 2000.0, 9000.0], sigma_hz=sigma_hz, phase=phase)
    # Both are Gaussians, for which the plain sum over a fine grid is exact to rounding.
    step = 1 / 64000
    time = torch.arange(-1600, 1601).double() * step
    frequency = TWO_PI * torch.tensor([0.0, 60.0, 1900.0, 2150.0, -2000.0, 9000.0]).double()
    waves = torch.exp(-1j * torch.outer(time, frequency))
    transform = (filters.impulse_response(time) + 0j) @ waves * step
    expected = TWO_PI * filters.frequency_response(frequency)
    torch.testing.assert_close(transform, expected, rtol=0, atol=1e-7)


def test_gain_at_the_center_is_one_and_the_phase_turns_with_the_sign() -> None:
    filters = gaussian([2000.0], phase=0.7)
    hertz = torch.tensor([2000.0, -2000.0, 2100.0, 2200.0, 0.0]).double()
    response = filters.frequency_response(TWO_PI * hertz)[0]
    rotation = complex(math.cos(0.7), math.sin(0.7))
    expected = [
        rotation,
        rotation.conjugate(),
        rotation * math.exp(-0.5),
        rotation * math.exp(-2.0),  # 0.135
        2 * math.cos(0.7) * math.exp(-200),
    ]
    torch.testing.assert_close(response, torch.tensor(expected, dtype=torch.complex128))


def test_a_filter_at_zero_frequency_has_twice_the_real_part() -> None:
    response = gaussian([0.0], phase=0.7).frequency_response(torch.zeros(1).double())
    assert response.item() == pytest.approx(2 * math.cos(0.7))


def test_values_of_an_impulse_response() -> None:
    sigma = TWO_PI * 100
    values = gaussian([1000.0], phase=0.5).impulse_response(
        torch.tensor([0.0, 1 / 800], dtype=torch.float64)
    )
    peak = 2 * math.sqrt(TWO_PI) * sigma
    assert values[0].tolist() == [
        pytest.approx(peak * math.cos(0.5)),
        pytest.approx(
            peak * math.exp(-0.5 * (sigma / 800) ** 2) * math.cos(TWO_PI * 1.25 + 0.5), rel=1e-9
        ),
    ]


def test_bandwidth_never_falls_below_one_hertz() -> None:
    filters = gaussian([100.0, 100.0], sigma_hz=1.001).requires_grad_()
    with torch.no_grad():
        filters.ln_sigma2[0] = -50.0
    assert filters.bandwidths_hz().tolist() == [pytest.approx(1.0), pytest.approx(1.001)]
    total = filters.impulse_response(torch.tensor([0.01]).double()).sum()
    torch.autograd.backward(total)
    assert filters.ln_sigma2.grad is not None
    assert filters.ln_sigma2.grad[0] == 0
    assert filters.ln_sigma2.grad[1] != 0


def test_evaluation_is_in_float64_whatever_the_parameters_are() -> None:
    filters = ModulatedGaussianFilters(3)
    time = torch.linspace(-0.002, 0.002, 7, dtype=torch.float64)
    single, double = filters.impulse_response(time), filters.double().impulse_response(time)
    assert single.dtype == torch.float64
    assert torch.equal(single, double)
    assert filters.frequency_response(time).dtype == torch.complex128
    assert filters.impulse_response(time.view(7, 1)).shape == (3, 7, 1)


# Gammatones


def test_phases_are_spread_over_the_centers_as_published() -> None:
    filters = MultiPhaseGammatoneFilters(440, num_centers=96)
    # 220 = 96 * 2 + 28: three phases for the first 28 centres, two for the others.
    assert filters.center_repeats.tolist() == [3] * 28 + [2] * 68
    expected = torch.tensor([0, math.pi / 2, math.pi] * 28 + [0, math.pi] * 68)
    torch.testing.assert_close(filters.phase.detach(), expected)
    centers = filters.centers_hz()
    assert filters.num_filters == centers.numel() == 440
    assert torch.equal(centers[:220], centers[220:])
    assert len(set(centers[:6].tolist())) == 2
    torch.testing.assert_close(centers[[0, 219]], torch.tensor([50.0, 16000.0]).double())
    assert sum(p.numel() for p in filters.parameters()) == 96 + 220


def test_second_half_repeats_the_first_with_the_opposite_sign() -> None:
    response = MultiPhaseGammatoneFilters(20, num_centers=4).impulse_response(
        torch.linspace(-0.001, 0.005, 50, dtype=torch.float64)
    )
    torch.testing.assert_close(response[10:], -response[:10], rtol=0, atol=1e-14)
    assert (response[:, :9] == 0).all()  # t < 0
    assert response[:, 9:].abs().max() > 1e-4


def gammatone_at(center: float, time: float, phase: float) -> float:
    # b = ERB(f) / (pi 2! 2^-2 / 1!^2) = ERB(f) / (pi / 2)
    decay = (24.7 + center / 9.265) / (math.pi / 2)
    envelope = time * math.exp(-TWO_PI * decay * time)
    return envelope * math.cos(TWO_PI * center * time + phase)


def test_values_of_a_gammatone() -> None:
    filters = MultiPhaseGammatoneFilters(6, num_centers=1, lowest_hz=1000, highest_hz=1000)
    assert filters.bandwidths_hz()[0].item() == pytest.approx((24.7 + 1000 / 9.265) / (math.pi / 2))
    time = torch.tensor([0.0003, 0.001885, 0.004], dtype=torch.float64)
    expected = [
        [gammatone_at(1000, t, phase) for t in time.tolist()]
        for phase in (0, math.pi / 2, math.pi, math.pi, 1.5 * math.pi, 2 * math.pi)
    ]
    # phases are float32 parameters
    actual: Tensor = filters.impulse_response(time)
    torch.testing.assert_close(actual, torch.tensor(expected).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("filters", "centers"), [(7, 2), (8, 5), (8, 0), (0, 0)])
def test_gammatone_counts_that_do_not_fit_are_refused(filters: int, centers: int) -> None:
    with pytest.raises(ConfigError, match=f"num_filters={filters}, num_centers={centers}"):
        MultiPhaseGammatoneFilters(filters, num_centers=centers)
