"""Conditioning on the target source: control networks and the layers that they modulate.

Source: Meseguer-Brocal and Peeters, "Conditioned-U-Net", ISMIR 2019 (control networks, FiLM);
Choi, Kim, Chung and Jung, "LaSAFT: latent source attentive frequency transformation for conditioned
source separation", ICASSP 2021 (PoCM, GPoCM).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


def film(features: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Scale and shift features (FiLM).

    Args:
        features: Shape (batch, channel, frames, bins).
        gamma: Factors, shape (batch, channel), or (batch, 1) for all channels alike ("simple").
        beta: Offsets, same shape.

    Returns:
        Shape of the features.
    """
    return gamma[:, :, None, None] * features + beta[:, :, None, None]


def pocm(features: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Mix channels: out[o] = beta[o] + sum over i of features[i] gamma[i, o] (PoCM).

    Args:
        features: Shape (batch, in, frames, bins).
        gamma: Weights, shape (batch, in, out). One published implementation takes (out, in).
        beta: Offsets, shape (batch, out).

    Returns:
        Shape (batch, out, frames, bins).
    """
    return torch.einsum("bitf,bio->botf", features, gamma) + beta[:, :, None, None]


def gated_pocm(features: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Multiply features by a gate computed from all channels (GPoCM); arguments as for `pocm`."""
    return features * torch.sigmoid(pocm(features, gamma, beta))


class DenseControl(nn.Sequential):
    """From a condition to features, by dense layers.

    Args:
        size: Length of a condition.
        widths: Of the layers; all but the first have dropout of 0.5 and a norm.
        eps: Epsilon of the norms.

    Shape:
        - Input: (batch, size)
        - Output: (batch, widths[-1])
    """

    def __init__(self, size: int, widths: Sequence[int], *, eps: float = 1e-5) -> None:
        layers: list[nn.Module] = [nn.Linear(size, widths[0]), nn.ReLU()]
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.ReLU(), nn.Dropout(0.5)]
            layers += [nn.BatchNorm1d(following, eps=eps)]
        super().__init__(*layers)


class ConvControl(nn.Module):
    """From a condition to features, by convolutions along the condition.

    Args:
        size: Length of a condition, and taps of each convolution.
        widths: Of the three convolutions; the last covers the whole condition.
        eps: Epsilon of the norms.

    Shape:
        - Input: (batch, size)
        - Output: (batch, widths[-1])
    """

    def __init__(self, size: int, widths: Sequence[int], *, eps: float = 1e-5) -> None:
        super().__init__()
        self._pads = ((size - 1) // 2, size // 2)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, following, size) for width, following in pairwise([1, *widths])
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(width, eps=eps) for width in widths[1:])
        self.dropout = nn.Dropout(0.5)

    def forward(self, condition: Tensor) -> Tensor:
        """Compute features; see the class."""
        features = condition.unsqueeze(1)
        last = len(self.convolutions) - 1
        for place, convolution in enumerate(self.convolutions):
            features = features if place == last else pad(features, self._pads)
            features = torch.relu(convolution(features))
            if place:
                features = self.norms[place - 1](self.dropout(features))
        return features.squeeze(2)


class GeneratedNorm(nn.BatchNorm1d):
    """A batch norm of generated weights that keeps them where a batch has one condition.

    Over a batch with a single condition, weights that depend only on the condition do not vary, and
    a plain batch norm would make them zero; running statistics are used there. In evaluation mode
    it is a batch norm without weights.

    Args:
        size: Number of generated weights.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, affine=False)

    def forward(self, weights: Tensor, *, mixed: bool = True) -> Tensor:
        """Normalise.

        Args:
            weights: Shape (batch, size).
            mixed: Whether the batch holds several conditions.

        Returns:
            Same shape.
        """
        if mixed or not self.training:
            return super().forward(weights)
        assert self.running_mean is not None
        assert self.running_var is not None
        return (weights - self.running_mean) * torch.rsqrt(self.running_var + self.eps)
