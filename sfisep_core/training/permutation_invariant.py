"""Permutation-invariant loss for unnamed sources."""

from functools import lru_cache
from itertools import permutations

import torch
from torch import Tensor

from sfisep_core.training.waveform_losses import energy_of

THRESHOLD_DB = -30.0
"""An example whose loss in dB is below this has no gradient."""
MAX_SOURCES = 5
"""Maximum number of sources: all orders of the estimates are tried."""

_EPSILON = 1e-8


def pit_si_snr_loss(*, estimates: Tensor, references: Tensor) -> Tensor:
    """Compute the negative scale-invariant SNR in dB for the best order of the estimates.

    With zero-mean signals e and s, and t = (<e, s> / |s|^2) s, it is
    -10 log10(|t|^2 / |e - t|^2), with 1e-8 added to every denominator and to the ratio. Of all
    orders of the estimates, each example has the one with the smallest mean over its sources.

    An example whose mean is below `THRESHOLD_DB` gets that value and no gradient, because it is
    already separated well. (Published recipes leave such examples out of the mean over the batch,
    which increases the weight of the others.)

    Args:
        estimates: Shape (batch, source, channel, time), at most `MAX_SOURCES` sources.
        references: Same shape.

    Returns:
        In dB, shape (batch, source), in the order of the references. A silent reference costs 80.

    Source: Kolbaek et al., "Multitalker speech separation with utterance-level permutation
    invariant training", IEEE/ACM TASLP 2017; the threshold is that of Subakan et al., "Attention is
    all you need in speech separation", ICASSP 2021.
    """
    e, s = (x - x.mean(dim=-1, keepdim=True) for x in (estimates, references))
    # (batch, estimate, reference)
    pairs = _si_snr(estimates=e.unsqueeze(2), references=s.unsqueeze(1))
    examples, count = references.shape[:2]
    numbers = torch.arange(max(examples, count), device=pairs.device)
    losses = -pairs[:, _orders(count, pairs.device), numbers[:count]]  # (batch, order, reference)
    best = losses.mean(dim=-1).argmin(dim=-1)
    losses = losses[numbers[:examples], best]
    good_enough = losses.mean(dim=-1, keepdim=True) < THRESHOLD_DB
    return torch.where(good_enough, THRESHOLD_DB, losses)


@lru_cache(maxsize=8)  # cached, because the copy to the device would block the host
def _orders(count: int, device: torch.device) -> Tensor:
    """Compute all permutations of `count` indices, shape (order, index)."""
    return torch.tensor(list(permutations(range(count))), device=device)


def _si_snr(*, estimates: Tensor, references: Tensor) -> Tensor:
    product = (estimates * references).sum(dim=(-2, -1))
    scale = product / (energy_of(references) + _EPSILON)
    target = scale[..., None, None] * references
    ratio = energy_of(target) / (energy_of(estimates - target) + _EPSILON)
    return 10 * torch.log10(ratio + _EPSILON)
