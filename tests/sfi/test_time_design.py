import math

import pytest
import torch
from torch import Tensor

from sfisep_core.sfi import ModulatedGaussianFilters, MultiPhaseGammatoneFilters, SFIConv1d
from sfisep_core.sfi.filter_bank import AnalogFilters
from sfisep_core.sfi.frame_grid import Alignment, frame_grid
from sfisep_core.sfi.layers import Design
from sfisep_core.sfi.time_design import NyquistRule, nyquist_weights

TWO_PI = 2 * math.pi
PHASES = torch.tensor([0.0, 0.25, 0.5, 0.75]).double() * math.pi


def gaussians(centers_hz: Tensor, *, sigma_hz: float = 100.0) -> ModulatedGaussianFilters:
    """Make one filter for each centre and each of four phases."""
    filters = ModulatedGaussianFilters(4 * centers_hz.numel()).double().requires_grad_(False)
    filters.center.copy_(TWO_PI * centers_hz.repeat_interleave(4))
    filters.ln_sigma2.fill_(2 * math.log(TWO_PI * sigma_hz))
    filters.phase.copy_(PHASES.repeat(centers_hz.numel()))
    return filters


def gains(
    filters: AnalogFilters,
    sample_rate: int,
    frequencies: Tensor,
    *,
    design: Design = "time",
    rule: NyquistRule = "mask",
    alignment: Alignment = "exact",
) -> Tensor:
    """Give |response| of the designed taps in units of H, (filter, frequency)."""
    layer = SFIConv1d(
        1, filters.num_filters, filters, design=design, nyquist_rule=rule, alignment=alignment
    ).eval()
    with torch.no_grad():
        taps = layer.taps(sample_rate)[0].double()
    steps = torch.arange(taps.shape[-1]).double() / sample_rate
    response = (taps + 0j) @ torch.exp(-1j * TWO_PI * torch.outer(steps, frequencies))
    if design == "time":
        response = response / (TWO_PI * (32000 if alignment == "exact" else sample_rate))
    return response.abs()


def filters_near_nyquist(kind: str) -> AnalogFilters:
    if kind == "gammatone":
        bank = MultiPhaseGammatoneFilters(200, num_centers=50, lowest_hz=2000, highest_hz=4100)
        return bank.double()
    return gaussians(torch.linspace(2000, 4100, 60).double(), sigma_hz=float(kind))


@pytest.mark.parametrize("kind", ["1", "50", "100", "300", "gammatone"])
def test_with_taper_no_filter_is_boosted_by_its_image(kind: str) -> None:
    filters = filters_near_nyquist(kind)
    nominal = gains(filters, 64000, torch.linspace(1, 7999, 1500).double()).amax(dim=1)
    # In samples at 8 kHz a frame lies at another sub-sample shift than at 64 kHz: the nominal gain
    # of the cut kernel, negative frequencies included, is the same to 0.2 %.
    below = torch.linspace(1, 3999, 1500).double()
    released = gains(filters, 8000, below, alignment="release").amax(dim=1) / nominal
    masked = gains(filters, 8000, below).amax(dim=1) / nominal
    tapered = gains(filters, 8000, below, rule="taper").amax(dim=1) / nominal
    assert released.max() > 1.4
    assert masked.max() < 1.2
    assert tapered.max() < 1.005
    # Filters well below F / 2 stay, those above are gone.
    centers = filters.centers_hz()
    assert tapered[centers < 2500].min() > 0.96
    assert (tapered[centers >= 4000] == 0).all()


def test_mask_and_frequency_design_next_to_nyquist() -> None:
    # The published numbers for a filter at 3933 Hz and F = 8000: +2.9 dB for the time design,
    # 0.635 for the frequency design. Both depend on the phase, so find the phase of the first.
    filters = ModulatedGaussianFilters(400, lowest_hz=3933, highest_hz=3933).double()
    filters.requires_grad_(False).phase.copy_(torch.linspace(0, math.pi / 2, 400).double())
    at_center = torch.tensor([3933.0]).double()
    time = gains(filters, 8000, at_center, alignment="release")[:, 0]
    frequency = gains(filters, 8000, at_center, design="frequency", alignment="release")[:, 0]
    boosted = (20 * torch.log10(time / 0.8837) - 2.9).abs().argmin()
    assert 20 * math.log10(time[boosted] / 0.8837) == pytest.approx(2.9, abs=0.01)
    assert frequency[boosted].item() == pytest.approx(0.635, abs=0.02)


def test_mask_is_hard_and_below_the_native_rate_only() -> None:
    filters = gaussians(torch.tensor([1000.0, 3999.0, 4001.0, 15000.0]).double())

    def weights(sample_rate: int, rule: NyquistRule) -> list[float]:
        found = nyquist_weights(
            filters, sample_rate=sample_rate, native_rate=32000, kernel_size=160, rule=rule
        )
        return found[::4].tolist()

    assert weights(8000, "mask") == [1, 1, 0, 0]
    assert weights(16000, "mask") == [1, 1, 1, 0]
    assert weights(32000, "mask") == [1, 1, 1, 1]
    tapered = weights(8000, "taper")
    assert tapered[0] == pytest.approx(1, abs=0.005)
    # 1 Hz below F / 2: the cosine's start, (pi / 2 * 1 Hz / 620 Hz)^2
    assert tapered[1] == pytest.approx((math.pi / 1240) ** 2, rel=1e-2)
    assert tapered[2:] == [0, 0]


def taps(
    filters: AnalogFilters, sample_rate: int, alignment: Alignment = "exact", kind: str = "mask"
) -> Tensor:
    layer = SFIConv1d(
        1,
        filters.num_filters,
        filters,
        design="time",
        alignment=alignment,
        nyquist_rule=kind,  # type: ignore[arg-type]
    ).eval()
    with torch.no_grad():
        return layer.taps(sample_rate)


def test_released_taps_are_samples_on_the_centred_grid() -> None:
    filters = gaussians(torch.tensor([1000.0]).double())
    time = (torch.arange(160).double() - 79.5) / 32000
    expected = filters.impulse_response(time).flip(-1)
    torch.testing.assert_close(taps(filters, 32000, "release")[0], expected)


@pytest.mark.parametrize(("sample_rate", "first"), [(8000, 1), (10000, 1), (25000, 0)])
def test_released_gammatones_start_at_sample_one_or_zero(sample_rate: int, first: int) -> None:
    # 25000 Hz: 125 taps, an odd number
    filters = MultiPhaseGammatoneFilters(8, num_centers=2, lowest_hz=300, highest_hz=2000).double()
    grid = frame_grid(
        sample_rate=sample_rate, native_rate=32000, kernel_size=160, stride=64, alignment="release"
    )
    time = (torch.arange(grid.num_taps).double() + first) / sample_rate
    with torch.no_grad():
        raw = filters.impulse_response(time)
        rms = raw.square().mean(dim=1, keepdim=True).sqrt()
        layer = SFIConv1d(1, 8, filters, design="time", stride=64, alignment="release").eval()
        actual = layer.taps(sample_rate)[0].flip(-1)
    torch.testing.assert_close(actual, raw * rms.max() / rms)
    assert (grid.num_taps % 2 == 0) == (first == 1)
