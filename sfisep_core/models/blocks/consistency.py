"""Mixture consistency: estimates that add up to the mixture."""

import torch
from torch import Tensor

from sfisep_core.models.blocks.moving_average import moving_average

# Energies are averaged over this time. It is shorter than a syllable, so that a silent stem gets no
# share of the others' residual, and longer than the period of all but the lowest notes.
ENERGY_SECONDS = 0.05


def share_residual(estimates: Tensor, mixture: Tensor, *, sample_rate: int) -> Tensor:
    """Distribute the residual of the mixture over the estimates by their local energy.

    The weight of an estimate is its energy over 50 ms around a sample, divided by the sum over all
    estimates. An estimate that is silent there stays silent, and the result does not depend on how
    a long signal is cut. Where all estimates are silent the residual is distributed equally.

    Args:
        estimates: Shape (..., source, channel, time).
        mixture: Shape (..., channel, time).
        sample_rate: Hz.

    Returns:
        Estimates whose sum over the sources is the mixture, same shape.

    Source: Wisdom et al., "Differentiable consistency constraints for improved deep speech
    enhancement", ICASSP 2019 (energy-weighted mixture consistency; local weights are an addition).
    """
    residual = mixture - estimates.sum(dim=-3)
    if estimates.shape[-1] == 0:
        return estimates
    window = 2 * round(ENERGY_SECONDS * sample_rate / 2) + 1
    # The floor only matters where all estimates are zero.
    floor = torch.finfo(estimates.dtype).tiny * 1e8
    # One source at a time: running sums need several copies in 64 bits.
    energies = [
        moving_average(source.square().reshape(1, -1, source.shape[-1]), window).view_as(source)
        for source in estimates.unbind(dim=-3)
    ]
    weights = torch.stack(energies, dim=-3).clamp_min_(floor)
    del energies
    total, residual = weights.sum(dim=-3, keepdim=True), residual.unsqueeze(-3)
    if torch.is_grad_enabled():
        return torch.addcmul(estimates, weights / total, residual)
    # Without gradients the result overwrites the weights: this is the peak of a separation.
    return torch.addcmul(estimates, weights.div_(total), residual, out=weights)
