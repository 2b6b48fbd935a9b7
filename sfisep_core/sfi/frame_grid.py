"""Where the frames of an SFI layer lie on the sample grid of a given sampling frequency.

A layer is defined in seconds at its native rate F0: kernel K0 / F0, stride S0 / F0. At another
rate F the stride is S = S0 F / F0 samples, which is whole only for some F. Write S = P / q in
lowest terms (44100 Hz for S0 / F0 = 2.5 ms: 441 / 4). Frame m = j + q i (phase j of q) is centred
at

    c = (m + 1/2) S + a F / F0 = c_j + i P   samples,

where a is the anchor in native samples. So frames of one phase are P samples apart, a whole number,
and share one set of taps: with n0 = ceil(c_j) and d = c_j - n0 in (-1, 0], the frame is

    y(c) = sum_n h((c - n) / F) x[n] = sum_p h((p + d) / F) x[n0 + i P - p],   p = n0 + i P - n.
"""

import logging
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from sfisep_core.errors import ConfigError

_logger = logging.getLogger(__name__)

Alignment = Literal["exact", "release"]

# With more phases than this the sub-sample shift is rounded to 1/64 sample (44101 Hz has 400
# phases).
MAX_TAP_SETS = 64

# Extra taps on either side of an exact kernel, beyond its duration.
MARGIN_TAPS = 4


@dataclass(frozen=True)
class FrameGrid:
    """The frames of an SFI layer at one sampling frequency.

    Attributes:
        sample_rate: F in Hz.
        period: P, the number of samples after which the frame positions repeat.
        starts: For each phase, the sample that the first (conv1d) tap of its first frame
            multiplies.
        tap_sets: For each phase, the index of its shift in `shifts`.
        shifts: Distinct sub-sample shifts d, in samples; () in release mode.
        first_position: Smallest p of a tap.
        num_taps: Number of taps K.
        half_width: K0 F / (2 F0), half the kernel's duration in samples.
        quantized: Whether the shifts were rounded to 1/64 sample.
    """

    sample_rate: int
    period: int
    starts: tuple[int, ...]
    tap_sets: tuple[int, ...]
    shifts: tuple[float, ...]
    first_position: int
    num_taps: int
    half_width: float
    quantized: bool

    @property
    def num_phases(self) -> int:
        """Number of phases q: frames per period."""
        return len(self.starts)

    def num_frames(self, num_samples: int) -> int:
        """Compute the number of frames that cover `num_samples` samples: ceil(T / S)."""
        return -(-num_samples * self.num_phases // self.period)


def exact_stride(*, sample_rate: int, native_rate: int, stride: int) -> Fraction:
    """Compute the stride in samples at `sample_rate` as an exact fraction P / q."""
    return Fraction(stride * sample_rate, native_rate)


def release_is_exact(*, sample_rate: int, native_rate: int, kernel_size: int, stride: int) -> bool:
    """Tell whether kernel and stride are whole numbers of samples (the published code's rule)."""
    return not (kernel_size * sample_rate % native_rate or stride * sample_rate % native_rate)


@lru_cache(maxsize=256)
def frame_grid(
    *,
    sample_rate: int,
    native_rate: int,
    kernel_size: int,
    stride: int,
    alignment: Alignment,
    anchor: Fraction = Fraction(0),
) -> FrameGrid:
    """Compute the frame positions of a layer at `sample_rate`.

    Args:
        sample_rate: F in Hz, a whole number, at least one sample per stride.
        native_rate: F0 in Hz.
        kernel_size: K0 in samples at F0.
        stride: S0 in samples at F0.
        alignment: "exact": frame m is centred at (m + 1/2) S0 / F0 + anchor. "release": the
            published code's padding (K - S) // 2 on truncated K and S.
        anchor: Shift of the frame centres in native samples (exact mode only).

    Returns:
        The grid.

    Raises:
        ConfigError: `sample_rate` is not a whole number, or is less than one sample per stride.
    """
    if sample_rate != int(sample_rate) or sample_rate * stride < native_rate:
        msg = (
            f"SFI layer at {sample_rate} Hz: expected a whole sampling frequency of at least "
            f"{-(-native_rate // stride)} Hz (one sample a stride); resample the signal first"
        )
        raise ConfigError(msg)
    sample_rate = int(sample_rate)  # 44100.0 is valid, but a Fraction needs an int
    if alignment == "release":
        taps = kernel_size * sample_rate // native_rate
        hop = stride * sample_rate // native_rate
        # even: p = -(K/2 - 1) .. K/2, odd: -(K - 1)/2 .. (K - 1)/2
        first = -((taps - 1) // 2)
        return FrameGrid(
            sample_rate, hop, (-((taps - hop) // 2),), (0,), (), first, taps, taps / 2, False
        )

    hop_fraction = exact_stride(sample_rate=sample_rate, native_rate=native_rate, stride=stride)
    period, phases = hop_fraction.numerator, hop_fraction.denominator
    half_width = Fraction(kernel_size * sample_rate, 2 * native_rate)
    # All positions within the kernel for some d in [-1, 0], and a few on either side: with them the
    # exact design matches the kernel's response to tones close to F / 2.
    first = math.floor(-half_width) + 1 - MARGIN_TAPS
    last = math.ceil(half_width + 1) - 1 + MARGIN_TAPS
    quantized = phases > MAX_TAP_SETS
    if quantized:
        _logger.info(
            "%d Hz: frames have %d sub-sample shifts; they are rounded to 1/%d sample",
            sample_rate,
            phases,
            MAX_TAP_SETS,
        )
    starts, shifts = [], []
    for phase in range(phases):
        center = (phase + Fraction(1, 2)) * hop_fraction + anchor * sample_rate / native_rate
        nearest = math.ceil(center)
        shift = center - nearest
        shifts.append(Fraction(round(shift * MAX_TAP_SETS), MAX_TAP_SETS) if quantized else shift)
        starts.append(nearest - last)
    distinct = sorted(set(shifts))
    index = {shift: i for i, shift in enumerate(distinct)}
    return FrameGrid(
        sample_rate=sample_rate,
        period=period,
        starts=tuple(starts),
        tap_sets=tuple(index[shift] for shift in shifts),
        shifts=tuple(float(shift) for shift in distinct),
        first_position=first,
        num_taps=last - first + 1,
        half_width=float(half_width),
        quantized=quantized,
    )
