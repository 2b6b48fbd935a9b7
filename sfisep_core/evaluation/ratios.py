"""Energy ratios of one estimate and one reference, over all channels and samples jointly."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sfisep_core.errors import ConfigError

Signal = npt.NDArray[np.floating[Any]]

_BLOCK = 2**18


def snr(*, estimate: Signal, reference: Signal) -> float:
    """Compute the signal-to-noise ratio in dB: the SDR of the MDX challenges (uSDR).

    For an estimate e of the reference s it is 10 log10(|s|^2 / |e - s|^2), with sums over all
    channels and samples in float64; no regularising constant is added.

    Args:
        estimate: Shape (channel, time) or any other.
        reference: Same shape.

    Returns:
        The ratio; 0 for a silent estimate. inf: the estimate equals the reference. nan: the
        reference is silent; such an estimate has a leakage instead (`bss_eval.bss_eval`).

    Raises:
        ConfigError: The shapes differ.

    Source: Mitsufuji et al., "Music Demixing Challenge 2021", Frontiers in Signal Processing 2022.
    """
    check_shapes("SNR", estimate, reference)
    reference_energy = _product(reference, reference)
    if reference_energy == 0:
        return math.nan
    return _ratio_db(reference_energy, _residual_energy(estimate, reference, 1.0))


def si_sdr(*, estimate: Signal, reference: Signal) -> float:
    """Compute the scale-invariant signal-to-distortion ratio in dB.

    With the target t = (<e, s> / <s, s>) s, the projection of the estimate e on the reference s,
    this is 10 log10(|t|^2 / |e - t|^2). Products and energies are sums over all channels and
    samples, in float64; no mean is subtracted and no regularising constant is added.

    Args:
        estimate: Shape (channel, time) or any other.
        reference: Same shape.

    Returns:
        The ratio. inf: the estimate is a multiple of the reference (about 300 dB with rounding
        errors). -inf: the estimate is orthogonal to the reference, for example silent. nan: the
        reference is silent, so that the ratio is undefined; such an estimate has
        a leakage instead (`bss_eval.bss_eval`).

    Raises:
        ConfigError: The shapes differ.

    Source: Le Roux, Wisdom, Erdogan and Hershey, "SDR - half-baked or well done?", ICASSP 2019.
    """
    check_shapes("SI-SDR", estimate, reference)
    reference_energy = _product(reference, reference)
    if reference_energy == 0:
        return math.nan
    scale = _product(estimate, reference) / reference_energy
    # From the residual itself: |e|^2 - |t|^2 would cancel all digits for a good estimate.
    distortion = _residual_energy(estimate, reference, scale)
    return _ratio_db(scale**2 * reference_energy, distortion)


def check_shapes(score: str, estimate: Signal, reference: Signal) -> None:
    """Raise a ConfigError, named after a score, if two signals differ in shape."""
    if estimate.shape != reference.shape:
        msg = (
            f"{score}: expected estimate and reference of one shape, got {estimate.shape} and "
            f"{reference.shape}: cut both to the same samples and channels"
        )
        raise ConfigError(msg)


def _blocks(*signals: Signal) -> Iterator[tuple[Signal, ...]]:
    """Yield signals in blocks in float64, since a copy of a whole track is large."""
    flat = [signal.reshape(-1) for signal in signals]
    for start in range(0, flat[0].size, _BLOCK):
        yield tuple(signal[start : start + _BLOCK].astype(np.float64) for signal in flat)


def _product(first: Signal, second: Signal) -> float:
    return math.fsum(float(a @ b) for a, b in _blocks(first, second))


def _residual_energy(estimate: Signal, reference: Signal, scale: float) -> float:
    """Compute |e - scale s|^2."""
    residuals = (e - scale * s for e, s in _blocks(estimate, reference))
    return math.fsum(float(residual @ residual) for residual in residuals)


def _ratio_db(numerator: float, denominator: float) -> float:
    if numerator == 0:
        return -math.inf
    return 10 * math.log10(numerator / denominator) if denominator > 0 else math.inf
