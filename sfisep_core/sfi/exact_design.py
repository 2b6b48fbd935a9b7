"""Exact design: taps whose response to every tone is that of the analog filter, at any F.

A layer's analog filter h is truncated to T = K0 / F0 seconds, so its response to a tone is that of
the truncated filter, R(f). Taps that sample the truncated h at F add the images (aliases) of R at
multiples of F. Truncation widens every filter: its skirt falls only as 1 / |f - centre|. So the
images are not negligible close to F / 2: 3 % of the gain at 8 kHz. Frames would then depend on F.

So the taps h[p] of a frame, p + d samples from the filter's centre, are those that minimise

    (1 / F) integral of w(f) |sum_p h[p] e^{-j 2 pi f (p + d) / F} - R(f)|^2 df over |f| < F / 2,

where w is 1 + GAP below BAND * F, the band in which the response must hold, and GAP above it. No
finite set of taps follows R up to F / 2, where R is discontinuous; the small weight there is what
allows a close fit below. With s(x) = 2 BAND sinc(2 BAND x) + GAP sinc(x), the transform of w, the
normal equations are

    sum_p' s(p - p') h[p'] = integral over |t| < T / 2 of s(p + d - t F) h(t) dt.

Their matrix depends only on the number of taps, so the taps are a linear function of values of
h(t).

Source: the frequency-domain fit of Saito et al. 2022, section III-A, to R instead of H, with the
shift d of frames that lie between samples.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.sfi.frame_grid import FrameGrid

_BAND = 0.46
_GAP = 0.003  # less makes the response overshoot between BAND * F and F / 2

# Instants times taps, of one shift and of all: 1 GiB at once, and minutes. A kernel of 64 ms at
# 96 kHz, and the paper's kernel of 5 ms with the 65 shifts of 383,999 Hz, take half of that.
_MAX_VALUES = 2**27
_MAX_VALUES_IN_ALL = 2**30
# Without gradients operators up to this size (8 MiB) are kept: encoder and decoder share them.
_MAX_KEPT_VALUES = 2**20


def exact_design(
    impulse_response: Callable[[Tensor], Tensor],
    grid: FrameGrid,
    *,
    native_rate: int,
    device: torch.device,
) -> Tensor:
    """Fit taps to analog filters that are truncated to the kernel's duration.

    Args:
        impulse_response: Computes h(t) at instants t in seconds from the kernel's centre, float64,
            shape (num_filters, *t.shape). The taps' response is the transform of h.
        grid: Frames of the layer at F, with exact alignment.
        native_rate: F0 in Hz; the filters' responses are negligible from about F0 / 2 on.
        device: Where the filters are.

    Returns:
        Taps h[p] in ascending order of p, one set for each shift of `grid`, float64, shape
        (num_sets, num_filters, num_taps).

    Raises:
        ConfigError: The kernel has so many taps at F that fitting them takes gigabytes or
            minutes.
    """
    times, _ = _instants(grid, native_rate, device)
    values = len(times) * grid.num_taps
    if values > _MAX_VALUES or values * len(grid.shifts) > _MAX_VALUES_IN_ALL:
        duration = 2 * grid.half_width / grid.sample_rate
        msg = (
            f"SFI layer at {grid.sample_rate} Hz: its kernel of {duration:.4g} s has "
            f"{grid.num_taps:,} taps, too many to fit to the filters' response: take a model with "
            "shorter kernels, or a lower sampling frequency"
        )
        raise ConfigError(msg)
    responses = impulse_response(times)
    if torch.is_grad_enabled():
        # In training the filters change at every step but the rates recur.
        return responses @ _kept_operators(grid, native_rate, device)
    small = values * len(grid.shifts) <= _MAX_KEPT_VALUES
    operators = _kept_operators if small else _operators
    # One after the other, because a rate may have 64 shifts.
    return torch.stack([responses @ one for one in operators(grid, native_rate, device)])


def _instants(grid: FrameGrid, native_rate: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Compute the instants t at which h(t) is integrated, and their weights, (num_times,) each."""
    duration = 2 * grid.half_width / grid.sample_rate
    # Sampled densely enough that no filter's image falls into the band.
    intervals = math.ceil(duration * max(4 * native_rate, 2 * grid.sample_rate))
    times = torch.linspace(-0.5, 0.5, intervals + 1, dtype=torch.float64, device=device) * duration
    areas = torch.full_like(times, duration / intervals)
    areas[[0, -1]] *= 0.5  # trapezoidal rule
    return times, areas


def _operators(grid: FrameGrid, native_rate: int, device: torch.device) -> Iterator[Tensor]:
    """Compute for each shift the operator from values of h(t) to taps, (time, tap)."""
    times, areas = _instants(grid, native_rate, device)
    positions = torch.arange(grid.num_taps, device=device).double() + grid.first_position
    system = _product(positions.unsqueeze(1) - positions)
    for shift in grid.shifts:
        distances = positions + shift - times.unsqueeze(1) * grid.sample_rate
        moments = areas.unsqueeze(1) * _product(distances)
        yield torch.linalg.solve(system, moments, left=False)


@lru_cache(maxsize=16)
def _kept_operators(grid: FrameGrid, native_rate: int, device: torch.device) -> Tensor:
    # Operators created in inference mode could not be used where gradients are required.
    with torch.inference_mode(mode=False):
        return torch.stack(list(_operators(grid, native_rate, device)))


def _product(distances: Tensor) -> Tensor:
    return 2 * _BAND * torch.sinc(2 * _BAND * distances) + _GAP * torch.sinc(distances)
