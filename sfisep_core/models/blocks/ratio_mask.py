"""Ratio masks: each source's value divided by the sum over all sources."""

import torch
from torch import Tensor


def ratio_mask(values: Tensor, *, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Normalise a network's outputs to ratio masks that sum to one over the sources.

    Args:
        values: Non-negative, up to 1e37; the sources lie along `dim`.
        dim: Axis of the sources.
        eps: Above 0, added to every value; values far below it have little effect. Where all values
            are 0 every source gets the same share. Gradients are at most 1 / eps.

    Returns:
        Shares of 0 to 1, same shape, 32 bits at least.

    Source: Chandna et al., "Monoaural audio source separation using deep convolutional neural
    networks", LVA/ICA 2017.

    >>> ratio_mask(torch.tensor([[3.0, 1.0], [0.0, 0.0]]))
    tensor([[0.7500, 0.2500],
            [0.5000, 0.5000]])
    """
    # 16 bits represent neither eps nor the outputs of unbounded networks (4e15 was observed).
    values = values.to(torch.promote_types(values.dtype, torch.float32)) + eps
    with torch.autocast(values.device.type, enabled=False):
        return values / values.sum(dim=dim, keepdim=True)
