"""Scores of speech separation: improvements over the mixture as an estimate of every source."""

import math

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
    return {
        "si_snr_improvement": si_snr(estimate, reference) - si_snr(mixture, reference),
        "sdr_improvement": filtered_sdr(estimate, reference, device=device)
        - filtered_sdr(mixture, reference, device=device),
    }


def si_snr(estimate: Signal, reference: Signal) -> float:
    """Compute the SI-SDR in dB of signals whose mean was subtracted per channel."""
    e, s = (
        x.astype(np.float64) - x.mean(axis=-1, keepdims=True, dtype=np.float64)
        for x in (estimate, reference)
    )
    return si_sdr(estimate=e, reference=s)


def filtered_sdr(estimate: Signal, reference: Signal, *, device: str = "cpu") -> float:
    """Compute the SDR of BSS Eval v3 in dB.

    It is 10 log10(|t|^2 / |e - t|^2), where t is the reference filtered with 512 taps that are
    fitted over the whole signal.

    Args:
        estimate: Shape (channel, time).
        reference: Same shape, not silent.
        device: Device of the computation.

    Returns:
        The ratio. -inf: the estimate is silent.

    Source: Vincent, Gribonval and Fevotte, "Performance measurement in blind audio source
    separation", IEEE TASLP 2006.
    """
    energy = float(np.sum(np.square(estimate, dtype=np.float64)))
    if energy == 0:
        return -math.inf
    lags = correlations([reference], [estimate], filter_length=_TAPS, device=torch.device(device))
    channels = reference.shape[0]
    right = lags[None, :, :, channels:]
    taps, _ = block_toeplitz.solve(lags[None, :, :, :channels], right)
    # Least squares: |t|^2 = <e, t>, and |e - t|^2 = |e|^2 - |t|^2.
    target = float((taps * right).sum())
    if target <= 0:
        return -math.inf
    return 10 * math.log10(target / (energy - target)) if target < energy else math.inf
