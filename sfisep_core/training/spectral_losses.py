"""Spectral losses, and their short-time Fourier transform.

In all formulas E is the spectrum of the estimate, S that of the reference (both of one source) and
X that of the mixture, which is the sum of the references.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from sfisep_core.training.waveform_losses import TINY, inverse_level, mixture_of

# Windows of the multi-resolution STFT; frames advance by a quarter of one.
STFT_SECONDS = (0.016, 0.032, 0.064)
# Parts of the spectrum 60 dB below the mixture's level count as silent.
_SPECTRAL_FLOOR = 1e-6
# The band over which that level is assumed to be spread; a constant, so that the loss does not
# depend on how much empty band a sampling frequency leaves above the music.
_SPECTRAL_BAND = 4000.0  # Hz


def stft_loss(
    *, estimates: Tensor, references: Tensor, sample_rate: int, floor_db: float
) -> Tensor:
    """Compute the distance of magnitude spectra, averaged over three resolutions.

    For each window length, with magnitudes E, S and X at every frequency and frame, with a floor d
    (E becomes sqrt(E^2 + d^2), and so on):

    - spectral convergence, the root of sum (E - S)^2 / (sum S^2 + f sum X^2), f from `floor_db`: it
      measures loud parts, and is finite for a silent source
    - the mean of |ln E - ln S|, weighted by X^2 / (X^2 + d^2): it measures quiet parts where the
      mixture is not silent

    d is 60 dB below the mixture's energy per frame, spread over 4 kHz. Windows of 16, 32 and 64 ms
    have the same bins in Hz at every sampling frequency, and bins without music have no weight. So
    the loss of music below 4 kHz is the same at 8 and at 48 kHz, and within 1 % where windows are
    not a whole number of samples, as at 44.1 kHz. The loss does not depend on level or phase:
    combine it with a loss that depends on phase. It is 0 if the mixture is silent.

    Args:
        estimates: Shape (batch, source, channel, time).
        references: Same shape.
        sample_rate: Hz.
        floor_db: Floor under a source's energy relative to the mixture's, in dB (negative).

    Returns:
        Shape (batch, source).

    Source: Yamamoto, Song and Kim, "Parallel WaveGAN", ICASSP 2020, section 2.2, for the sum of
        both terms over several resolutions; floors and weights are additions.
    """
    mixture = mixture_of(references)
    inverse = inverse_level(mixture.square().mean(dim=(-2, -1)).sqrt())[..., None, None]
    # One transform for all signals without gradient, with the mixture last.
    given = torch.cat([references, mixture], dim=1) * inverse
    estimates = estimates * inverse
    total = torch.zeros(references.shape[:2], dtype=references.dtype, device=references.device)
    for seconds in STFT_SECONDS:
        e = _power(spectra(estimates, seconds=seconds, sample_rate=sample_rate))
        power = _power(spectra(given, seconds=seconds, sample_rate=sample_rate))
        s, x = power[:, :-1], power[:, -1:]  # (B, S, C, bin, frame), (B, 1, C, bin, frame)
        energy = x.sum(dim=(2, 3, 4))  # (B, 1)
        frames = x.shape[2] * x.shape[4]
        floor = _SPECTRAL_FLOOR * energy / frames / (_SPECTRAL_BAND * seconds) + TINY
        floor = floor[..., None, None, None]
        e_magnitude, s_magnitude = (e + floor).sqrt(), (s + floor).sqrt()
        convergence = (
            torch.linalg.vector_norm(e_magnitude - s_magnitude, dim=(2, 3, 4))
            / (s.sum(dim=(2, 3, 4)) + 10 ** (floor_db / 10) * energy + TINY).sqrt()
        )
        weight = x / (x + floor)
        difference = (e_magnitude.log() - s_magnitude.log()).abs()
        logarithmic = (difference * weight).sum(dim=(2, 3, 4)) / (weight.sum((2, 3, 4)) + TINY)
        total = total + (convergence + logarithmic) / len(STFT_SECONDS)
    return total


def complex_mse_loss(
    *, estimates: Tensor, references: Tensor, sample_rate: int, window_seconds: float
) -> Tensor:
    """Compute the mean squared error of complex spectra relative to the mixture's mean power.

    mean |E - S|^2 / mean |X|^2 over channels, bins and frames. It does not depend on level, and is
    0 if the mixture is silent. Since the transform preserves energy, it nearly equals the same
    error of the samples, for any window.

    Args:
        estimates: Shape (batch, source, channel, time).
        references: Same shape.
        sample_rate: Hz.
        window_seconds: Length of the window, above 0; frames advance by a quarter of it.

    Returns:
        Shape (batch, source).

    Source: Choi et al., "Investigating U-Nets with various intermediate blocks for
        spectrogram-based singing voice separation", ISMIR 2020; the normalisation by the mixture is
        an addition.
    """
    error, mixture = (
        _power(spectra(signals, seconds=window_seconds, sample_rate=sample_rate)).mean((2, 3, 4))
        for signals in (estimates - references, mixture_of(references))
    )
    return error * inverse_level(mixture.sqrt()).square()


def magnitude_l1_loss(
    *, estimates: Tensor, references: Tensor, sample_rate: int, window_seconds: float
) -> Tensor:
    """Compute the mean absolute error of magnitudes relative to the mixture's mean magnitude.

    mean ||E| - |S|| / mean |X| over channels, bins and frames. It does not depend on level or
    phase, and is 0 if the mixture is silent.

    Args:
        estimates: Shape (batch, source, channel, time).
        references: Same shape.
        sample_rate: Hz.
        window_seconds: Length of the window, above 0; frames advance by a quarter of it.

    Returns:
        Shape (batch, source).

    Source: Jansson et al., "Singing voice separation with deep U-Net convolutional networks",
        ISMIR 2017; the normalisation by the mixture is an addition.
    """
    e, s, x = (
        spectra(signals, seconds=window_seconds, sample_rate=sample_rate).abs()
        for signals in (estimates, references, mixture_of(references))
    )
    return (e - s).abs().mean((2, 3, 4)) * inverse_level(x.mean((2, 3, 4)))


def spectra(signals: Tensor, *, seconds: float, sample_rate: int) -> Tensor:
    """Compute the STFT with a Hann window of unit energy.

    White noise then has the same power per bin as per sample. Frames lie within the signal, without
    padding at its ends.

    Args:
        signals: Shape (..., time), of any length.
        seconds: Length of the window, above 0; frames advance by a quarter of it.
        sample_rate: Hz.

    Returns:
        Complex, shape (..., bin, frame).
    """
    hop = max(1, round(seconds * sample_rate / 4))
    window = torch.hann_window(4 * hop, dtype=signals.dtype, device=signals.device)
    window = window / torch.linalg.vector_norm(window)
    flat = pad(signals.flatten(0, -2), (0, max(0, 4 * hop - signals.shape[-1])))
    result = torch.stft(flat, 4 * hop, hop, window=window, center=False, return_complex=True)
    return result.view(*signals.shape[:-1], *result.shape[-2:])


def _power(values: Tensor) -> Tensor:
    return torch.view_as_real(values).square().sum(dim=-1)
