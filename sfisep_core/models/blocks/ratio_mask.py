"""Ratio masks: each source's share of what all sources have."""

import torch
from torch import Tensor


def ratio_mask(values: Tensor, *, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Turn what a network says of each source into shares that sum to one.

    Args:
        values: 0 or more, of any size up to 1e37; the sources lie along `dim`.
        dim: Axis of the sources.
        eps: Above 0, added to every value: how much it takes for a source to matter. Where all
            values are 0 every source gets the same share. Gradients are 1 / eps at most.

    Returns:
        Shares of 0 to 1, same shape, 32 bits at least.

    Source: Chandna et al., "Monoaural audio source separation using deep convolutional neural
    networks", LVA/ICA 2017.

    >>> ratio_mask(torch.tensor([[3.0, 1.0], [0.0, 0.0]]))
    tensor([[0.7500, 0.2500],
            [0.5000, 0.5000]])
    """
    # 16 bits hold neither eps nor what unbounded networks give (4e15 has been seen).
    values = values.to(torch.promote_types(values.dtype, torch.float32)) + eps
    with torch.autocast(values.device.type, enabled=False):
        return values / values.sum(dim=dim, keepdim=True)
