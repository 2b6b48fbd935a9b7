"""Waveform losses, and functions that all losses share.

In all formulas e is the estimate, s the reference (both of one source) and x the mixture, which is
the sum of the references; |.|^2 is the energy, a sum over channels and samples.
"""

import torch
from torch import Tensor

# Keeps logarithms of digital silence finite; far below the energy of any other signal.
TINY = 1e-12
# Sources below this share of the mixture's energy are silent for the losses.
_SILENCE = 1e-6
# Limits SI-SDR to +-80 dB.
_SI_SDR_BOUND = 1e-8
# Mixtures below this level (-160 dB full scale) count as silent.
_SILENT_LEVEL = 1e-8


def snr_loss(*, estimates: Tensor, references: Tensor, floor_db: float) -> Tensor:
    """Compute the negative SNR in dB with a floor of the energies of error and reference.

    10 log10((|e - s|^2 + f |x|^2) / (|s|^2 + f |x|^2)), where f is the floor. An error below the
    floor has little gradient, and for a silent source an estimate below the floor is sufficient,
    rather than an infinite SNR. It does not depend on level: e, s and x appear in equal powers in
    numerator and denominator.

    Args:
        estimates: Shape (batch, source, channel, time).
        references: Same shape.
        floor_db: Floor relative to the mixture's energy, in dB (negative).

    Returns:
        In dB, shape (batch, source).
    """
    floor = 10 ** (floor_db / 10) * energy_of(mixture_of(references)) + TINY
    return 10 * torch.log10(
        (energy_of(estimates - references) + floor) / (energy_of(references) + floor)
    )


def si_sdr_loss(*, estimates: Tensor, references: Tensor, floor_db: float) -> Tensor:
    """Compute the negative scale-invariant SDR in dB, and the leakage for silent sources.

    With t = (<e, s> / |s|^2) s, the projection of the estimate on the reference, it is
    10 log10(|e - t|^2 / |t|^2). A fraction of |e|^2 added to both energies limits it to +-80 dB and
    keeps the invariance. A silent estimate costs as much as one that is orthogonal to the
    reference.

    A silent source (below -60 dB of the mixture's energy) has no SI-SDR. If it were left out,
    nothing would prevent leakage into silent stems, so its loss is that of `snr_loss`: 10
    log10((|e|^2 + f |x|^2) / (f |x|^2)), the level of the estimate above the floor f.

    Args:
        estimates: Shape (batch, source, channel, time).
        references: Same shape.
        floor_db: Floor relative to the mixture's energy, in dB (negative), for silent sources.

    Returns:
        In dB, shape (batch, source).

    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019; the term for silent
        sources is an addition.
    """
    scale = (estimates * references).sum(dim=(-2, -1)) / (energy_of(references) + TINY)
    target = scale[..., None, None] * references
    bound = _SI_SDR_BOUND * energy_of(estimates)
    distortion = energy_of(estimates - target) + bound + TINY
    ratio = 10 * torch.log10(distortion / (energy_of(target) + bound + _SI_SDR_BOUND * TINY))
    leakage = snr_loss(estimates=estimates, references=references, floor_db=floor_db)
    return torch.where(is_silent(references), leakage, ratio)


def l1_loss(*, estimates: Tensor, references: Tensor) -> Tensor:
    """Compute the mean absolute error relative to the mixture's mean absolute value.

    mean |e - s| / mean |x|. It does not depend on level, is mean |s| / mean |x| for a silent
    estimate, and 0 if the mixture is silent.

    Args:
        estimates: Shape (batch, source, channel, time).
        references: Same shape.

    Returns:
        Shape (batch, source).
    """
    level = mixture_of(references).abs().mean(dim=(-2, -1))
    return (estimates - references).abs().mean(dim=(-2, -1)) * inverse_level(level)


def mixture_of(references: Tensor) -> Tensor:
    """Sum the sources, shape (batch, 1, channel, time) for (batch, source, channel, time)."""
    return references.sum(dim=1, keepdim=True)


def energy_of(signal: Tensor) -> Tensor:
    """Sum the squares over the last two axes."""
    return signal.square().sum(dim=(-2, -1))


def is_silent(references: Tensor) -> Tensor:
    """Tell which sources are silent relative to their mixture, shape (batch, source)."""
    return energy_of(references) <= _SILENCE * energy_of(mixture_of(references))


def inverse_level(level: Tensor) -> Tensor:
    """Compute 1 / level, and 0 for silence."""
    return torch.where(level > _SILENT_LEVEL, 1 / level.clamp_min(_SILENT_LEVEL), 0.0)
