"""Losses of waveforms, and what all losses share.

In all formulas e is the estimate, s the reference (both of one source) and x the mixture, which is
the sum of the references; |.|^2 is the energy, a sum over channels and samples.
"""

import torch
from torch import Tensor

# Energy that keeps logarithms of digital silence finite; far below the floor of any other signal.
TINY = 1e-12
# Sources below this share of the mixture's energy are silent for the losses.
_SILENCE = 1e-6
# SI-SDR beyond +-80 dB earns and costs nothing more.
_SI_SDR_BOUND = 1e-8
# Mixtures below this level (-160 dB full scale) have none that losses could be relative to.
_SILENT_LEVEL = 1e-8


def snr_loss(*, estimates: Tensor, references: Tensor, floor_db: float) -> Tensor:
    """Give the negative SNR in dB with a floor under error and reference energy.

    10 log10((|e - s|^2 + f |x|^2) / (|s|^2 + f |x|^2)), f the floor. An error below the floor is
    not worth working on, and a silent source asks for an estimate below the floor instead of an
    infinite SNR. Level does not matter: e, s and x appear in equal powers above and below.

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
    """Give the negative scale-invariant SDR in dB, and of silent sources the leakage.

    With t = (<e, s> / |s|^2) s, the part of the estimate that is the reference, it is
    10 log10(|e - t|^2 / |t|^2). A share of |e|^2 under both energies bounds it to +-80 dB without
    giving up the invariance. A silent estimate costs as much as one that has nothing of the
    reference.

    A silent source (below -60 dB of the mixture's energy) has no SI-SDR. Left out, it would teach
    nothing, and a network leaks into every stem that rests; so it costs what it does in `snr_loss`:
    10 log10((|e|^2 + f |x|^2) / (f |x|^2)), the level of the estimate above the floor f.

    Args:
        estimates: Shape (batch, source, channel, time).
        references: Same shape.
        floor_db: Floor relative to the mixture's energy, in dB (negative), for silent sources.

    Returns:
        In dB, shape (batch, source).

    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019; silent sources are ours.
    """
    scale = (estimates * references).sum(dim=(-2, -1)) / (energy_of(references) + TINY)
    target = scale[..., None, None] * references
    bound = _SI_SDR_BOUND * energy_of(estimates)
    distortion = energy_of(estimates - target) + bound + TINY
    ratio = 10 * torch.log10(distortion / (energy_of(target) + bound + _SI_SDR_BOUND * TINY))
    leakage = snr_loss(estimates=estimates, references=references, floor_db=floor_db)
    return torch.where(is_silent(references), leakage, ratio)


def l1_loss(*, estimates: Tensor, references: Tensor) -> Tensor:
    """Give the mean absolute error relative to the mixture's mean absolute value.

    mean |e - s| / mean |x|: level does not matter, and an estimate of silence costs
    mean |s| / mean |x|. An example whose mixture is silent costs nothing.

    Args:
        estimates: Shape (batch, source, channel, time).
        references: Same shape.

    Returns:
        Shape (batch, source).
    """
    level = mixture_of(references).abs().mean(dim=(-2, -1))
    return (estimates - references).abs().mean(dim=(-2, -1)) * inverse_level(level)


def mixture_of(references: Tensor) -> Tensor:
    """Add up the sources, shape (batch, 1, channel, time) for (batch, source, channel, time)."""
    return references.sum(dim=1, keepdim=True)


def energy_of(signal: Tensor) -> Tensor:
    """Add up the squares over the last two axes."""
    return signal.square().sum(dim=(-2, -1))


def is_silent(references: Tensor) -> Tensor:
    """Tell which sources are silent beside their mixture, shape (batch, source)."""
    return energy_of(references) <= _SILENCE * energy_of(mixture_of(references))


def inverse_level(level: Tensor) -> Tensor:
    """Give 1 / level, and 0 for silence."""
    return torch.where(level > _SILENT_LEVEL, 1 / level.clamp_min(_SILENT_LEVEL), 0.0)
