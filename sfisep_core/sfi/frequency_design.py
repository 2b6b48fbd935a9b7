"""Frequency-domain design: taps whose frequency response fits an analog filter's.

The response of taps h[p] at whole positions p is D(w) = sum_p h[p] e^{-j w p / F}. They are fitted
in the least-squares sense to the target R(w) at M frequencies w_m = pi F m / (M - 1):

    minimise  sum_m |D(w_m) - R(w_m)|^2   over real h.

With real and imaginary parts stacked, the normal equations are A^T A h = b, where

    b[p]         = Re sum_m R(w_m) e^{+j w_m p / F},
    (A^T A)[p,r] = sum_m cos(pi m (p - r) / (M - 1)),   m = 0 .. M-1.

That sum of cosines over a half period, both ends included, is M for p = r, 1 for an even and 0 for
an odd difference (as long as |p - r| < 2 (M - 1)). So A^T A = (M - 1) I + e e^T + o o^T, where e
and o indicate the even and the odd positions, and the Sherman-Morrison formula inverts it in closed
form:

    h = (b - e (e.b) / (M - 1 + |e|) - o (o.b) / (M - 1 + |o|)) / (M - 1).

This is the paper's pseudo-inverse solution without a matrix factorisation. It is used in release
mode; exact mode fits the response of the filter truncated to the kernel's duration
(`exact_design.py`).

Source: Saito et al. 2022, section III-A (least-squares fit in the frequency domain).
"""

import math

import torch
from torch import Tensor

from sfisep_core.sfi.exact_design import exact_design
from sfisep_core.sfi.filter_bank import AnalogFilters
from sfisep_core.sfi.frame_grid import FrameGrid


def least_squares_taps(response: Tensor, positions: Tensor) -> Tensor:
    """Fit taps to frequency responses given from 0 to the Nyquist frequency.

    Args:
        response: Target R(w_m), complex, shape (..., M), w_m equally spaced over [0, pi F].
        positions: Consecutive whole tap positions p, float64, shape (K,), K <= 2 (M - 1).

    Returns:
        Taps, float64, shape (..., K).
    """
    num_samples = response.shape[-1]
    steps = math.pi * torch.arange(num_samples, device=response.device).double()
    angles = torch.outer(steps / (num_samples - 1), positions)  # (M, K)
    moments = response.real @ torch.cos(angles) - response.imag @ torch.sin(angles)  # b, (..., K)
    taps = moments
    for parity in (0, 1):
        marked = (positions.long() % 2 == parity).double()
        projection = (moments @ marked) / (num_samples - 1 + marked.sum())
        taps = taps - projection.unsqueeze(-1) * marked
    return taps / (num_samples - 1)


def frequency_design(
    filters: AnalogFilters,
    grid: FrameGrid,
    *,
    native_rate: int,
    num_response_samples: int,
) -> Tensor:
    """Design the tap sets of a layer by frequency-domain fit.

    Args:
        filters: Analog filters with a frequency response.
        grid: Frames of the layer at F.
        native_rate: F0 in Hz.
        num_response_samples: Release mode: smallest M. M = 2 K is used where that is larger, since
            fewer samples than taps leave the fit underdetermined (384 kHz and M = 640 would halve
            the gain).

    Returns:
        Taps h[p] in ascending order of p, float64, shape (num_sets, num_filters, num_taps).
    """
    device = filters.device
    if grid.shifts:
        return exact_design(
            lambda time: filters.impulse_response(time) / filters.transform_factor,
            grid,
            native_rate=native_rate,
            device=device,
        )
    num_samples = max(num_response_samples, 2 * grid.num_taps)
    nyquist = math.pi * grid.sample_rate
    frequencies = torch.linspace(0, nyquist, num_samples, dtype=torch.float64, device=device)
    positions = torch.arange(grid.num_taps, device=device).double() + grid.first_position
    response = filters.frequency_response(frequencies)
    return least_squares_taps(response, positions).unsqueeze(0)
