"""Latent source attentive frequency transformation: dense layers weighted by the source.

Source: Choi, Kim, Chung and Jung, "LaSAFT", ICASSP 2021; Jeong, Choi and Choi, "LightSAFT:
lightweight latent source aware frequency transform for source separation", MDX workshop 2021.
"""

import math

import torch
from torch import Tensor, nn

from sfisep_core.models.blocks.tfc_tdf import TDF


class _Attention(nn.Module):
    """Weights of the latent sources for an embedding, shape (batch, latent); they sum to one."""

    def __init__(self, embedding: int, key_size: int, num_latent: int) -> None:
        super().__init__()
        self.query = nn.Linear(embedding, key_size)
        self.keys = nn.Parameter(torch.randn(key_size, num_latent))

    def forward(self, embedding: Tensor) -> Tensor:
        products = self.query(embedding) @ self.keys
        return torch.softmax(products / math.sqrt(len(self.keys)), dim=-1)


class LaSAFT(nn.Module):
    """A frequency transformation per latent source, averaged with attention weights.

    Args:
        channels: Number of channels.
        bins: Number of frequency bins.
        units: Hidden units of the dense layers, all latent sources together.
        num_latent: Number of latent sources <I>.
        embedding: Length of an embedding.
        key_size: Length of a key <dk>.

    Shape:
        - Input: (batch, channels, frames, bins) and (batch, embedding)
        - Output: (batch, channels, frames, bins)
    """

    def __init__(
        self,
        channels: int,
        bins: int,
        *,
        units: int,
        num_latent: int,
        embedding: int,
        key_size: int,
    ) -> None:
        super().__init__()
        self.attention = _Attention(embedding, key_size, num_latent)
        self.values = TDF(channels, bins, units, out_bins=bins * num_latent)

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Transform; see the class."""
        weights = self.attention(embedding)
        values = self.values(features).unflatten(-1, (features.shape[-1], -1))  # (..., f, I)
        return torch.einsum("bctfi,bi->bctf", values, weights)


class LightSAFT(nn.Module):
    """A `LaSAFT` whose latent sources are averaged before a shared second dense layer.

    Args:
        channels: Number of channels.
        bins: Number of frequency bins.
        units: Hidden units of each latent source.
        num_latent: Number of latent sources <I>.
        embedding: Length of an embedding.
        key_size: Length of a key <dk>.

    Shape:
        As of `LaSAFT`.
    """

    def __init__(
        self,
        channels: int,
        bins: int,
        *,
        units: int,
        num_latent: int,
        embedding: int,
        key_size: int,
    ) -> None:
        super().__init__()
        self.attention = _Attention(embedding, key_size, num_latent)
        self.narrow = TDF(channels, bins, None, out_bins=units * num_latent)
        self.widen = TDF(channels, units, None, out_bins=bins)

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Transform; see the class."""
        weights = self.attention(embedding)
        values = self.narrow(features).unflatten(-1, (weights.shape[-1], -1))  # (..., I, units)
        return self.widen(torch.einsum("bctiu,bi->bctu", values, weights))  # type: ignore[no-any-return]
