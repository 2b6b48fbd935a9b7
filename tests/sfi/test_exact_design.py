"""The exact design against the transform of the cut filters, whatever their width and place."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.sfi import ModulatedGaussianFilters, MultiPhaseGammatoneFilters, SFIConv1d
from sfisep_core.sfi.filter_bank import AnalogFilters

TWO_PI = 2 * math.pi
NINE_RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000)


def gaussians(centers_hz: Tensor, sigma_hz: float) -> ModulatedGaussianFilters:
    torch.manual_seed(4)
    filters = ModulatedGaussianFilters(centers_hz.numel()).double().requires_grad_(False)
    filters.center.copy_(TWO_PI * centers_hz)
    filters.ln_sigma2.fill_(2 * math.log(TWO_PI * sigma_hz))
    return filters


def cut_response(
    filters: AnalogFilters, hertz: Tensor, *, duration: float, center: float = 0.0
) -> Tensor:
    """Transform h over its duration, about the kernel's centre; (filter, frequency)."""
    time = torch.linspace(-duration / 2, duration / 2, 2401, dtype=torch.float64)
    weights = torch.full_like(time, duration / 2400)
    weights[[0, -1]] *= 0.5
    kernels = filters.impulse_response(time + center) * weights
    return (kernels + 0j) @ torch.exp(-1j * TWO_PI * torch.outer(time, hertz))


def tap_responses(layer: SFIConv1d, sample_rate: int, hertz: Tensor) -> Tensor:
    """Give D(w) e^{-j w d / F} of every set of taps; (set, filter, frequency)."""
    grid = layer.grid(sample_rate)
    with torch.no_grad():
        taps = layer.taps(sample_rate).double().flip(-1)
    positions = torch.arange(grid.num_taps).double() + grid.first_position
    places = positions + torch.tensor(grid.shifts, dtype=torch.float64).unsqueeze(1)
    waves = torch.exp(-1j * TWO_PI / sample_rate * places.unsqueeze(-1) * hertz)
    return (taps + 0j) @ waves


def worst_error(layer: SFIConv1d, sample_rate: int, *, unit: float, center: float = 0.0) -> Tensor:
    """Give every filter's worst error below 0.45 F, relative to its gain at the centre."""
    duration = layer.kernel_size / layer.native_rate
    hertz = torch.linspace(20, 0.45 * sample_rate, 150).double()
    expected = cut_response(layer.filters, hertz, duration=duration, center=center) / unit
    at_centers = layer.filters.centers_hz()
    peaks = cut_response(layer.filters, at_centers, duration=duration, center=center).diagonal()
    found = tap_responses(layer, sample_rate, hertz)
    return (found - expected).abs().amax(dim=(0, 2)) / (peaks.abs() / unit)


@pytest.mark.parametrize("sigma_hz", [1.0, 20.0, 100.0, 300.0, 1000.0, 2000.0])
@pytest.mark.parametrize("sample_rate", NINE_RATES)
def test_gaussians_of_any_width(sample_rate: int, sigma_hz: float) -> None:
    centers = torch.linspace(1000, 0.45 * min(sample_rate, 35000), 12).double()
    filters = gaussians(centers, sigma_hz)
    layer = SFIConv1d(1, 12, filters, design="frequency").eval()
    assert worst_error(layer, sample_rate, unit=TWO_PI).max() < 0.01


@pytest.mark.parametrize("sample_rate", NINE_RATES)
def test_gaussians_between_the_band_and_half_the_rate(sample_rate: int) -> None:
    """A filter whose centre is out of reach still has its skirt in the band: a little worse."""
    centers = torch.linspace(0.45, 0.5, 8).double() * min(sample_rate, 32000)
    layer = SFIConv1d(1, 8, gaussians(centers, 100.0), design="frequency").eval()
    assert worst_error(layer, sample_rate, unit=TWO_PI).max() < 0.015


@pytest.mark.parametrize("sample_rate", NINE_RATES)
def test_gammatones_of_any_centre(sample_rate: int) -> None:
    highest = 0.45 * min(sample_rate, 35000)
    filters = MultiPhaseGammatoneFilters(16, num_centers=8, lowest_hz=150, highest_hz=highest)
    filters.double().requires_grad_(False)
    layer = SFIConv1d(1, 16, filters, design="time").eval()
    native = filters.impulse_response(torch.arange(1, 161).double() / 32000)
    rms = native.square().mean(dim=1).sqrt()
    layer_gains = rms.max() / rms * 32000  # equalisation, and the unit of published taps
    duration, center = 0.005, 80.5 / 32000
    hertz = torch.linspace(20, 0.45 * sample_rate, 150).double()
    expected = cut_response(filters, hertz, duration=duration, center=center)
    found = tap_responses(layer, sample_rate, hertz) / layer_gains.unsqueeze(1)
    error = (found - expected).abs().amax(dim=(0, 2)) / expected.abs().amax(dim=1)
    assert error.max() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [8001, 12345, 44101])
def test_rounded_shifts(sample_rate: int) -> None:
    """Frames up to 1/128 sample off: up to pi 0.45 / 64 = 2.2 % for a tone at 0.45 F."""
    centers = torch.linspace(250, 0.45 * min(sample_rate, 35000), 24).double()
    layer = SFIConv1d(1, 24, gaussians(centers, 100.0), design="frequency").eval()
    grid = layer.grid(sample_rate)
    assert grid.quantized
    assert len(grid.shifts) <= 65
    assert worst_error(layer, sample_rate, unit=TWO_PI).max() < 0.01  # at the rounded places


@pytest.mark.slow
@pytest.mark.parametrize(
    ("native_rate", "kernel_size", "stride", "sample_rate"),
    [
        (44100, 220, 110, 8000),
        (44100, 220, 110, 44100),
        (32000, 2048, 512, 8000),  # 64 ms, with filters far above 2 F
        (44100, 2048, 441, 16000),
    ],
)
def test_other_kernels(native_rate: int, kernel_size: int, stride: int, sample_rate: int) -> None:
    centers = torch.linspace(250, 0.5 * native_rate, 24).double()
    filters = gaussians(centers, 100.0)
    layer = SFIConv1d(
        1,
        24,
        filters,
        design="frequency",
        native_rate=native_rate,
        kernel_size=kernel_size,
        stride=stride,
    ).eval()
    error = worst_error(layer, sample_rate, unit=TWO_PI)
    assert error.max() < 0.015


@pytest.mark.parametrize(
    ("kernel_size", "stride", "sample_rate"),
    [(8192, 8000, 192_000), (4096, 1, 44_100)],  # large for one shift; for its 65 shifts
)
def test_kernel_that_would_exhaust_memory(kernel_size: int, stride: int, sample_rate: int) -> None:
    layer = SFIConv1d(
        1,
        2,
        ModulatedGaussianFilters(2),
        design="frequency",
        kernel_size=kernel_size,
        stride=stride,
    ).eval()
    expected = rf"^SFI layer at {sample_rate} Hz: its kernel of 0.\d+ s has [\d,]+ taps, too many"
    with torch.no_grad(), pytest.raises(ConfigError, match=expected):
        layer.taps(sample_rate)


def test_what_was_kept_in_inference_mode_serves_for_training() -> None:
    settings: dict[str, Any] = {"design": "frequency", "kernel_size": 160, "stride": 80}
    sample_rate = 9_600  # of no other test: what is kept is kept for the process
    with torch.inference_mode():
        separating = SFIConv1d(1, 8, ModulatedGaussianFilters(8), **settings).eval()
        separating.taps(sample_rate)
    training = SFIConv1d(1, 8, ModulatedGaussianFilters(8), **settings)
    training.taps(sample_rate).square().sum().backward()
    assert all(parameter.grad is not None for parameter in training.filters.parameters())
