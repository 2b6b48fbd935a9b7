"""Training losses over (batch, source, channel, time), averaged over the sources that count."""

from typing import Literal

import torch
from torch import Tensor

from sfisep_core.errors import ConfigError

LossKind = Literal["snr", "si-sdr"]

# Energy that keeps an utterly silent mixture's loss finite; far below the floor of any other.
_TINY = 1e-12
# Sources below this share of the mixture's energy are silent for the losses.
_SILENCE = 1e-6


def soft_snr_loss(
    *, estimates: Tensor, references: Tensor, floor_db: float, mask_silent: bool = False
) -> Tensor:
    """Give the negative SNR in dB with a floor under error and reference energy.

    Per source: 10 log10((|e - s|^2 + f |x|^2) / (|s|^2 + f |x|^2)), x the mixture, f the floor.
    An error below the floor is not worth working on, and a silent source asks for an estimate
    below the floor instead of an infinite SNR.

    Args:
        estimates: Shape (batch, source, channel, time).
        references: Same shape.
        floor_db: Floor relative to the mixture's energy, in dB (negative).
        mask_silent: Leave silent sources out instead.

    Returns:
        Mean over batch and sources, in dB; smaller is better.
    """
    mixture = references.sum(dim=1, keepdim=True)
    floor = 10 ** (floor_db / 10) * _energy(mixture) + _TINY
    error = _energy(estimates - references)
    loss = 10 * torch.log10((error + floor) / (_energy(references) + floor))
    if not mask_silent:
        return loss.mean()
    return _mean_over_active(loss, references)


def si_sdr_loss(*, estimates: Tensor, references: Tensor) -> Tensor:
    """Give the negative scale-invariant SDR in dB, silent sources masked out.

    Args:
        estimates: Shape (batch, source, channel, time).
        references: Same shape.

    Returns:
        Mean over the sources that are not silent, in dB; smaller is better.

    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019.
    """
    eps = torch.finfo(references.dtype).eps
    reference_energy = _energy(references)
    projection = (estimates * references).sum(dim=(-2, -1)) / (reference_energy + eps)
    target = projection[..., None, None] * references
    noise = _energy(estimates - target)
    loss = -10 * torch.log10((_energy(target) + eps) / (noise + eps))
    return _mean_over_active(loss, references)


def loss_function(
    kind: LossKind,
    *,
    estimates: Tensor,
    references: Tensor,
    floor_db: float,
    mask_silent: bool = False,
) -> Tensor:
    """Compute a loss by name; see the functions of this module."""
    if kind == "snr":
        return soft_snr_loss(
            estimates=estimates,
            references=references,
            floor_db=floor_db,
            mask_silent=mask_silent,
        )
    if kind == "si-sdr":
        return si_sdr_loss(estimates=estimates, references=references)
    msg = f"loss {kind!r}: unknown; expected snr or si-sdr"
    raise ConfigError(msg)


def _mean_over_active(loss: Tensor, references: Tensor) -> Tensor:
    mixture = references.sum(dim=1, keepdim=True)
    active = (_energy(references) > _SILENCE * _energy(mixture)).to(loss.dtype)
    return (loss * active).sum() / active.sum().clamp_min(1.0)


def _energy(signal: Tensor) -> Tensor:
    return signal.square().sum(dim=(-2, -1))
