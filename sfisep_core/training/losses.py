"""Training losses, one value an example and source, and which of them count.

A step's loss is sum(losses * weights) / sum(weights), both sums over everything that one update
sees. Neither function takes a mean itself: with processes or micro-batches that hold different
numbers of silent sources, the mean of means would not be the mean.

In all formulas e is the estimate, s the reference (both of one source) and x the mixture, which is
the sum of the references; |.|^2 is the energy, a sum over channels and samples.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

LossName = Literal["snr", "si-sdr", "l1", "stft"]

# Energy that keeps logarithms of digital silence finite; far below the floor of any other signal.
_TINY = 1e-12
# Sources below this share of the mixture's energy are silent for the losses.
_SILENCE = 1e-6
# SI-SDR beyond +-80 dB earns and costs nothing more.
_SI_SDR_BOUND = 1e-8
# Mixtures below this level (-160 dB full scale) have none that losses could be relative to.
_SILENT_LEVEL = 1e-8

# Windows of the multi-resolution STFT; frames advance by a quarter of one.
STFT_SECONDS = (0.016, 0.032, 0.064)
# Parts of the spectrum this far (-60 dB) below the mixture's level are as good as silent.
_SPECTRAL_FLOOR = 1e-6
# The band over which that level is taken to be spread; a constant, so that it does not depend on
# how much empty band a sampling frequency leaves above the music.
_SPECTRAL_BAND = 4000.0  # Hz


def source_losses(
    losses: Mapping[LossName, float],
    *,
    estimates: Tensor,
    references: Tensor,
    sample_rate: int,
    floor_db: float,
) -> Tensor:
    """Compute the weighted sum of losses for every source.

    Computed in float32 at least, and outside of autocast. All values and gradients are finite, for
    silence too, as long as no sample exceeds 1e10.

    Args:
        losses: Weights by name of the loss: the functions of this module.
        estimates: Shape (batch, source, channel, time).
        references: Same shape.
        sample_rate: Hz.
        floor_db: Floor relative to the mixture's energy, in dB (negative), of "snr", of silent
            sources in "si-sdr" and of the spectral convergence in "stft".

    Returns:
        Shape (batch, source); smaller is better.
    """
    with torch.autocast(estimates.device.type, enabled=False):
        kind = torch.promote_types(references.dtype, torch.float32)
        e, s = estimates.to(kind), references.to(kind)
        total = torch.zeros(s.shape[:2], dtype=kind, device=s.device)
        for name, weight in losses.items():
            match name:
                case "snr":
                    value = snr_loss(estimates=e, references=s, floor_db=floor_db)
                case "si-sdr":
                    value = si_sdr_loss(estimates=e, references=s, floor_db=floor_db)
                case "l1":
                    value = l1_loss(estimates=e, references=s)
                case "stft":
                    value = stft_loss(
                        estimates=e, references=s, sample_rate=sample_rate, floor_db=floor_db
                    )
            total = total + weight * value
        return total


def source_weights(references: Tensor, *, mask_silent: bool) -> Tensor:
    """Tell which sources count, from the data alone.

    Args:
        references: Shape (batch, source, channel, time).
        mask_silent: Whether silent ones (below -60 dB of the mixture's energy) are left out.

    Returns:
        1.0 or 0.0, shape (batch, source).
    """
    references = references.to(torch.promote_types(references.dtype, torch.float32))
    references = references.to(torch.promote_types(references.dtype, torch.float32))
    if not mask_silent:
        return references.new_ones(references.shape[:2])
    return (~_silent(references)).to(references.dtype)


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
    floor = 10 ** (floor_db / 10) * _energy(_mixture(references)) + _TINY
    return 10 * torch.log10(
        (_energy(estimates - references) + floor) / (_energy(references) + floor)
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
    scale = (estimates * references).sum(dim=(-2, -1)) / (_energy(references) + _TINY)
    target = scale[..., None, None] * references
    bound = _SI_SDR_BOUND * _energy(estimates)
    distortion = _energy(estimates - target) + bound + _TINY
    ratio = 10 * torch.log10(distortion / (_energy(target) + bound + _SI_SDR_BOUND * _TINY))
    leakage = snr_loss(estimates=estimates, references=references, floor_db=floor_db)
    return torch.where(_silent(references), leakage, ratio)


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
    level = _mixture(references).abs().mean(dim=(-2, -1))
    return (estimates - references).abs().mean(dim=(-2, -1)) * _inverse(level)


def stft_loss(
    *, estimates: Tensor, references: Tensor, sample_rate: int, floor_db: float
) -> Tensor:
    """Give the distance of magnitude spectra, mean over three resolutions.

    For each window length, with magnitudes E, S and X at every frequency and frame, rounded up by a
    floor d (E becomes sqrt(E^2 + d^2), and so on):

    - spectral convergence, the root of sum (E - S)^2 / (sum S^2 + f sum X^2), f from `floor_db`:
      loud parts, and finite for a silent source
    - the mean of |ln E - ln S|, weighted by X^2 / (X^2 + d^2): quiet parts, as far as the mixture
      has anything there

    d is 60 dB below the mixture's energy a frame, spread over 4 kHz. Windows last 16, 32 and 64 ms,
    whose spectra have the same bins in Hz at every sampling frequency, and bins without music have
    no weight: music below 4 kHz costs the same at 8 and at 48 kHz, and within 1 % of that where
    windows are no whole number of samples, as at 44.1 kHz. Level does not matter. Phase does not
    either: combine it with a loss that hears phase. An example whose mixture is silent costs
    nothing.

    Args:
        estimates: Shape (batch, source, channel, time).
        references: Same shape.
        sample_rate: Hz.
        floor_db: Floor under a source's energy relative to the mixture's, in dB (negative).

    Returns:
        Shape (batch, source).

    Source: Yamamoto, Song and Kim, "Parallel WaveGAN", ICASSP 2020, section 2.2, for the sum of
        both terms over several resolutions; floors and weights are ours.
    """
    mixture = _mixture(references)
    inverse = _inverse(mixture.square().mean(dim=(-2, -1)).sqrt())[..., None, None]
    # One transform for all that needs no gradient, with the mixture last.
    given = torch.cat([references, mixture], dim=1) * inverse
    estimates = estimates * inverse
    total = torch.zeros(references.shape[:2], dtype=references.dtype, device=references.device)
    for seconds in STFT_SECONDS:
        e = _power_spectra(estimates, seconds=seconds, sample_rate=sample_rate)
        power = _power_spectra(given, seconds=seconds, sample_rate=sample_rate)
        s, x = power[:, :-1], power[:, -1:]  # (B, S, C, bin, frame), (B, 1, C, bin, frame)
        energy = x.sum(dim=(2, 3, 4))  # (B, 1)
        frames = x.shape[2] * x.shape[4]
        floor = _SPECTRAL_FLOOR * energy / frames / (_SPECTRAL_BAND * seconds) + _TINY
        floor = floor[..., None, None, None]
        e_magnitude, s_magnitude = (e + floor).sqrt(), (s + floor).sqrt()
        convergence = (
            torch.linalg.vector_norm(e_magnitude - s_magnitude, dim=(2, 3, 4))
            / (s.sum(dim=(2, 3, 4)) + 10 ** (floor_db / 10) * energy + _TINY).sqrt()
        )
        weight = x / (x + floor)
        difference = (e_magnitude.log() - s_magnitude.log()).abs()
        logarithmic = (difference * weight).sum(dim=(2, 3, 4)) / (weight.sum((2, 3, 4)) + _TINY)
        total = total + (convergence + logarithmic) / len(STFT_SECONDS)
    return total


def _power_spectra(signals: Tensor, *, seconds: float, sample_rate: int) -> Tensor:
    """Give |STFT|^2 with a Hann window, shape (..., bin, frame) for (..., time).

    Frames lie inside the signal: where an excerpt is cut off, its spectrum is that of the cut.
    """
    hop = max(1, round(seconds * sample_rate / 4))
    window = torch.hann_window(4 * hop, dtype=signals.dtype, device=signals.device)
    flat = pad(signals.flatten(0, -2), (0, max(0, 4 * hop - signals.shape[-1])))
    spectra = torch.stft(flat, 4 * hop, hop, window=window, center=False, return_complex=True)
    power: Tensor = torch.view_as_real(spectra).square().sum(dim=-1)
    return power.view(*signals.shape[:-1], *power.shape[-2:])


def _mixture(references: Tensor) -> Tensor:
    return references.sum(dim=1, keepdim=True)


def _silent(references: Tensor) -> Tensor:
    """Tell which sources are silent beside their mixture, shape (batch, source)."""
    return _energy(references) <= _SILENCE * _energy(_mixture(references))


def _energy(signal: Tensor) -> Tensor:
    return signal.square().sum(dim=(-2, -1))


def _inverse(level: Tensor) -> Tensor:
    """Give 1 / level, and 0 for silence."""
    return torch.where(level > _SILENT_LEVEL, 1 / level.clamp_min(_SILENT_LEVEL), 0.0)
