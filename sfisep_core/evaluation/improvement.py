"""Scores of speech separation: improvements over the mixture as an estimate of every source."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from sfisep_core.evaluation import block_toeplitz
from sfisep_core.evaluation.distortion_filters import correlations
from sfisep_core.evaluation.ratios import Signal, si_sdr

_TAPS = 512


def improvement_scores(
    *, estimate: Signal, reference: Signal, mixture: Signal, device: str = "cpu"
) -> dict[str, float]:
    """Compute the improvements of SI-SNR and SDR over the mixture.

    Args:
        estimate: Shape (channel, time).
        reference: Same shape, not silent.
        mixture: Same shape.
        device: Device on which the filters of the SDR are computed.

    Returns:
        Values in dB under the keys of `metrics.IMPROVEMENT_METRICS`. nan: mixture and estimate both
        equal the reference.
    """
    of_estimate, of_mixture = filtered_sdrs([estimate, mixture], reference, device=device)
    return {
        "si_snr_improvement": si_snr(estimate, reference) - si_snr(mixture, reference),
        "sdr_improvement": of_estimate - of_mixture,
    }


def si_snr(estimate: Signal, reference: Signal) -> float:
    """Compute the SI-SDR in dB of signals whose mean was subtracted per channel."""
    e, s = (
        x.astype(np.float64) - x.mean(axis=-1, keepdims=True, dtype=np.float64)
        for x in (estimate, reference)
    )
    return si_sdr(estimate=e, reference=s)


def filtered_sdrs(
    estimates: Sequence[Signal], reference: Signal, *, device: str = "cpu"
) -> list[float]:
    """Compute the SDR of BSS Eval v3 in dB, of several estimates of one source.

    It is 10 log10(|t|^2 / |e - t|^2), where t is the reference filtered with 512 taps that are
    fitted over the whole signal.

    Args:
        estimates: Shape (channel, time) each.
        reference: Same shape, not silent.
        device: Device of the computation.

    Returns:
        One ratio per estimate. -inf: the estimate is silent.

    Source: Vincent, Gribonval and Fevotte, "Performance measurement in blind audio source
    separation", IEEE TASLP 2006.
    """
    lags = correlations([reference], estimates, filter_length=_TAPS, device=torch.device(device))
    channels = reference.shape[0]
    right = lags[None, :, :, channels:]
    # Nearly all of the time is spent on the matrix, which is that of the reference alone.
    taps, _ = block_toeplitz.solve(lags[None, :, :, :channels], right)
    # Least squares: |t|^2 = <e, t>, and |e - t|^2 = |e|^2 - |t|^2.
    targets = (taps * right).sum((0, 1, 2)).view(len(estimates), channels).sum(1)
    energies = [float(np.sum(np.square(estimate, dtype=np.float64))) for estimate in estimates]
    return [
        _ratio_db(target, energy) for target, energy in zip(targets.tolist(), energies, strict=True)
    ]


def _ratio_db(target: float, energy: float) -> float:
    if energy == 0 or target <= 0:
        return -math.inf
    return 10 * math.log10(target / (energy - target)) if target < energy else math.inf
