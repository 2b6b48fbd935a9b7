"""Time-domain design: taps that are samples of an analog filter's impulse response.

A continuous convolution y(c) = integral h(t) x(c - t) dt becomes, sampled at F,
y(c) = (1 / F) sum_n h(c - n / F) x[n]. The published layers omit 1 / F, so their gain is
proportional to F. In exact mode the layers multiply by F0 / F, which keeps the gain with which
weights were trained at F0 (see `layers.py`). There the taps are not the samples themselves but a
fit to the truncated h, because sampling adds images of its response (`exact_design.py`).

Source: Saito et al. 2022, section III-B and III-C.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from sfisep_core.sfi.exact_design import exact_design
from sfisep_core.sfi.filter_bank import AnalogFilters
from sfisep_core.sfi.frame_grid import FrameGrid

NyquistRule = Literal["mask", "taper"]

# Width of the taper below the Nyquist frequency, as the sum of three terms: a multiple of the
# sampling frequency, since the exact design is not constrained in the last few hundredths; of the
# filter's bandwidth; and of the inverse kernel duration, since a short kernel widens a filter
# however narrow its parameters make it.
_TAPER_RATES = 0.04
_TAPER_BANDWIDTHS = 2.0
_TAPER_INVERSE_DURATIONS = 0.5


def nyquist_weights(
    filters: AnalogFilters,
    *,
    sample_rate: int,
    native_rate: int,
    kernel_size: int,
    rule: NyquistRule,
) -> Tensor:
    """Compute weights of filters from how far their centre lies below half the sampling frequency.

    Args:
        filters: Analog filters.
        sample_rate: F in Hz.
        native_rate: F0 in Hz.
        kernel_size: K0 in samples at F0.
        rule: "mask": 0 above F / 2 where F < F0, else 1 (published). "taper": a raised cosine
            that reaches 0 at F / 2; for exact taps, which contain no image of a filter whose weight
            is 1.

    Returns:
        Weights from 0 to 1, float64, shape (num_filters,), without gradient.
    """
    with torch.no_grad():
        room = sample_rate / 2 - filters.centers_hz()
        if rule == "mask":
            keep = room >= 0 if sample_rate < native_rate else torch.ones_like(room)
            return keep.double()
        duration = kernel_size / native_rate
        fixed = _TAPER_RATES * sample_rate + _TAPER_INVERSE_DURATIONS / duration
        width = fixed + _TAPER_BANDWIDTHS * filters.bandwidths_hz()
        return 0.5 - 0.5 * torch.cos(math.pi * (room / width).clamp(0.0, 1.0))


def _release_times(
    grid: FrameGrid, *, causal: bool, sample_rate: int, device: torch.device
) -> Tensor:
    steps = torch.arange(grid.num_taps, device=device).double()
    if causal:  # 1..K for an even, 0..K-1 for an odd number of taps
        return (steps + (1 - grid.num_taps % 2)) / sample_rate
    return (steps - (grid.num_taps - 1) / 2) / sample_rate


def time_design(
    filters: AnalogFilters,
    grid: FrameGrid,
    *,
    native_rate: int,
    kernel_size: int,
    nyquist_rule: NyquistRule,
) -> Tensor:
    """Design the tap sets of a layer by sampling the impulse responses.

    Filters of `equal_energy` are scaled to equal RMS: each is divided by its own RMS and multiplied
    by the largest one. In exact mode the RMS is that of the unshifted taps at F0, whatever F and d
    are, since the gain must not depend on them.

    Args:
        filters: Analog filters.
        grid: Frames of the layer at F. In exact mode its anchor is -1/2 native sample, with which
            an even number of taps at F0 is centred between two samples, as published.
        native_rate: F0 in Hz.
        kernel_size: K0 in samples at F0.
        nyquist_rule: See `nyquist_weights`.

    Returns:
        Taps h[p] in ascending order of p, float64, shape (num_sets, num_filters, num_taps).
    """
    device = filters.device
    weights = nyquist_weights(
        filters,
        sample_rate=grid.sample_rate,
        native_rate=native_rate,
        kernel_size=kernel_size,
        rule=nyquist_rule,
    )
    if not grid.shifts:
        times = _release_times(
            grid, causal=filters.causal, sample_rate=grid.sample_rate, device=device
        )
        taps = filters.impulse_response(times)
        if filters.equal_energy:
            taps = taps * _equalising_gains(taps)
        return (taps * weights.unsqueeze(1)).unsqueeze(0)

    gains = weights.unsqueeze(1) * grid.sample_rate  # taps are values of h, not of h / F
    # The kernel of causal filters covers t = 1 .. K0 native samples; (K0 + 1) / 2 is its centre.
    center = (kernel_size + 1) / (2 * native_rate) if filters.causal else 0.0
    if filters.equal_energy:
        steps = torch.arange(kernel_size, device=device).double()
        steps = steps + 1 if filters.causal else steps - (kernel_size - 1) / 2
        gains = gains * _equalising_gains(filters.impulse_response(steps / native_rate))
    return exact_design(
        lambda time: filters.impulse_response(time + center) * gains,
        grid,
        native_rate=native_rate,
        device=device,
    )


def _equalising_gains(taps: Tensor) -> Tensor:
    rms = taps.square().mean(dim=-1, keepdim=True).sqrt()
    return rms.max() / rms
