"""Scores of one estimate against one reference, over all channels and samples jointly."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sfisep_core.errors import ConfigError

_Signal = npt.NDArray[np.floating[Any]]


def si_sdr(*, estimate: _Signal, reference: _Signal) -> float:
    """Give the scale-invariant signal-to-distortion ratio in dB.

    With the target t = (<e, s> / <s, s>) s, the part of the estimate e that is the reference s,
    this is 10 log10(|t|^2 / |e - t|^2). Products and energies are sums over all channels and
    samples, in float64; no mean is taken out and no small number is added.

    Args:
        estimate: Shape (channel, time) or any other.
        reference: Same shape.

    Returns:
        The ratio. inf: the estimate is the reference times a number (where rounding gets in the
        way of that, some 300 dB). -inf: nothing of the estimate is along the reference, as in a
        silent estimate. nan: the reference is silent, which leaves the ratio undefined; rate such
        an estimate by its level instead (`level_db`).

    Raises:
        ConfigError: The shapes differ.

    Source: Le Roux, Wisdom, Erdogan and Hershey, "SDR - half-baked or well done?", ICASSP 2019.
    """
    if estimate.shape != reference.shape:
        msg = (
            f"SI-SDR: expected estimate and reference of one shape, got {estimate.shape} and "
            f"{reference.shape}: cut both to the same samples and channels"
        )
        raise ConfigError(msg)
    e, s = estimate.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    reference_energy = float(s @ s)
    if reference_energy == 0:
        return math.nan
    target = float(e @ s) / reference_energy * s
    # The residual itself: |e|^2 - |t|^2 would lose all digits of a good estimate's distortion.
    distortion = e - target
    return _ratio_db(float(target @ target), float(distortion @ distortion))


def level_db(*, signal: _Signal, relative_to: _Signal) -> float:
    """Give the RMS level of a signal relative to another's, in dB.

    Args:
        signal: Shape (channel, time) or any other.
        relative_to: Any shape; the mixture, as a rule.

    Returns:
        20 log10 of the ratio of the RMS values over all channels and samples. -inf: the signal is
        silent or empty. nan: `relative_to` is, which leaves nothing to compare with.
    """
    power = _mean_square(relative_to)
    return _ratio_db(_mean_square(signal), power) if power > 0 else math.nan


def _mean_square(signal: _Signal) -> float:
    samples = signal.astype(np.float64).ravel()
    return float(samples @ samples) / max(samples.size, 1)


def _ratio_db(numerator: float, denominator: float) -> float:
    if numerator == 0:
        return -math.inf
    return 10 * math.log10(numerator / denominator) if denominator > 0 else math.inf
