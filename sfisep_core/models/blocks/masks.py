"""Masks of sources: from a network's outputs, and applied to spectra."""

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


def mask_spectra(masks: Tensor, spectra: Tensor, *, above: Tensor | None = None) -> Tensor:
    """Apply the masks of several sources to the spectra of their mixture.

    The product of a real and a complex tensor needs a complex copy of the real one, which is as
    large as the result. Here real and imaginary parts are multiplied separately.

    Args:
        masks: Real, shape (batch, source, channel, ..., bin).
        spectra: Complex, shape (batch, channel, ..., bin).
        above: Real, shape (batch, source, channel, ..., 1): the mask of all bins of the spectra
            above those that `masks` covers; None = it covers all.

    Returns:
        Spectra of the sources, complex, shape (batch, source, channel, ..., bin).
    """
    parts = torch.view_as_real(spectra).unsqueeze(1)
    if above is None:
        return torch.view_as_complex(parts * masks.unsqueeze(-1))
    covered, bins = masks.shape[-1], spectra.shape[-1]
    if torch.is_grad_enabled():
        rest = above.expand(*masks.shape[:-1], bins - covered)
        return mask_spectra(torch.cat([masks, rest], dim=-1), spectra)
    # Without gradients nothing is copied to join the two.
    # torch.broadcast_shapes would import sympy, which takes longer than a second of music.
    products = parts.new_empty(*masks.shape[:2], *spectra.shape[1:], 2)
    torch.mul(parts[..., :covered, :], masks.unsqueeze(-1), out=products[..., :covered, :])
    torch.mul(parts[..., covered:, :], above.unsqueeze(-1), out=products[..., covered:, :])
    return torch.view_as_complex(products)
