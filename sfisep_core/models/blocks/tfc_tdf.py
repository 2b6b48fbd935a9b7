"""Time-frequency convolutions (TFC) and time-distributed fully-connected layers (TDF).

Source: Choi, Kim, Chung, Lee and Jung, "Investigating U-Nets with various intermediate blocks for
spectrogram-based singing voice separation", ISMIR 2020.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from sfisep_core.models.blocks.unet import Condition


class TFC(nn.Module):
    """A dense block of convolutions over time and frequency; it returns the last features.

    With `kernel_frames` of 1 it is a TDC: convolutions over frequency, frame by frame.

    Args:
        in_channels: Number of input channels.
        channels: Growth rate: features per convolution, and output channels.
        num_layers: Number of convolutions.
        kernel_frames: Kernel size along time, odd.
        kernel_bins: Kernel size along frequency, odd.

    Shape:
        - Input: (batch, in_channels, frames, bins)
        - Output: (batch, channels, frames, bins)
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_layers: int,
        *,
        kernel_frames: int = 3,
        kernel_bins: int = 3,
    ) -> None:
        super().__init__()
        kernel = (kernel_frames, kernel_bins)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(
                    in_channels + layer * channels,
                    channels,
                    kernel,
                    padding=(kernel_frames // 2, kernel_bins // 2),
                ),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for layer in range(num_layers)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Convolve; see the class."""
        newest = self.layers[0](features)
        for layer in self.layers[1:]:
            features = torch.cat([newest, features], dim=1)
            newest = layer(features)
        return newest  # type: ignore[no-any-return]


class TDF(nn.Sequential):
    """One or two dense layers over frequency, the same for every frame and channel.

    Args:
        channels: Number of channels, each normalised separately.
        bins: Number of input bins.
        units: Hidden units between two layers; None = one layer.
        out_bins: Number of output bins; None = as many as `bins`.
        bias: Whether dense layers have a bias.
        affine: Whether norms have weights.

    Shape:
        - Input: (batch, channels, frames, bins)
        - Output: (batch, channels, frames, out_bins)
    """

    def __init__(
        self,
        channels: int,
        bins: int,
        units: int | None,
        *,
        out_bins: int | None = None,
        bias: bool = False,
        affine: bool = True,
    ) -> None:
        sizes = [bins, *([] if units is None else [units]), out_bins or bins]
        layers: list[nn.Module] = []
        for size, next_size in pairwise(sizes):
            layers += [
                nn.Linear(size, next_size, bias=bias),
                nn.BatchNorm2d(channels, affine=affine),
                nn.ReLU(),
            ]
        super().__init__(*layers)


class Level(nn.Module):
    """A block of a U-Net: a transform, its modulation, and an added transform over frequency.

    Args:
        transform: Module from features to features.
        modulate: Function of features, gamma and beta; None = no modulation.
        across: Module of features and an embedding (or of features alone, unless
            `needs_embedding`), whose output is added; None = no such module.

    Shape:
        As of the parts.
    """

    def __init__(
        self,
        transform: nn.Module,
        modulate: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        across: nn.Module | None = None,
        *,
        needs_embedding: bool = False,
    ) -> None:
        super().__init__()
        self.transform, self.across = transform, across
        self._modulate, self._needs_embedding = modulate, needs_embedding

    def forward(self, features: Tensor, condition: Condition | None) -> Tensor:
        """Transform features; see the class."""
        features = self.transform(features)
        if condition is not None and condition.gamma is not None:
            assert self._modulate is not None
            assert condition.beta is not None
            features = self._modulate(features, condition.gamma, condition.beta)
        if self.across is None:
            return features
        if not self._needs_embedding:
            return features + self.across(features)  # type: ignore[no-any-return]
        assert condition is not None
        return features + self.across(features, condition.embedding)  # type: ignore[no-any-return]
