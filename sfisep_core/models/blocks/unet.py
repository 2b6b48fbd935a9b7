"""The U-Net: an encoder that downsamples, a decoder that upsamples, and skip connections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sfisep_core.config_values import CheckedConfig, Range
from sfisep_core.errors import ConfigError


@dataclass(frozen=True)
class LevelsConfig(CheckedConfig):
    """Size of a U-Net of strided convolutions; the default is Jansson's, and Spleeter's.

    Attributes:
        channels: Output channels of the encoders, from the outermost on; each encoder halves the
            numbers of frames and bins.

    Raises:
        ConfigError: A size is out of range.
    """

    section = "model setting network."

    channels: tuple[Annotated[int, Range(1, 4096)], ...] = (
        16,
        32,
        64,
        128,
        256,
        512,
    )

    def __post_init__(self) -> None:
        """Check values and their number."""
        super().__post_init__()
        if not 2 <= len(self.channels) <= 12:
            msg = (
                "model setting network.channels: expected the channels of 2 to 12 levels, got "
                f"{len(self.channels)}"
            )
            raise ConfigError(msg)

    @property
    def multiple(self) -> int:
        """The numbers of frames and bins inside are multiples of this."""
        return int(2 ** len(self.channels))


@dataclass(frozen=True)
class Condition:
    """Conditioning of a block on the target source.

    Attributes:
        embedding: The source as a vector, shape (batch, embedding).
        gamma: Factors for the block's features; None = no modulation.
        beta: Offsets; None if gamma is None.
    """

    embedding: Tensor
    gamma: Tensor | None = None
    beta: Tensor | None = None


class UNet(nn.Module):
    """A U-Net of given blocks.

    A block is a module called with features and its `Condition`, or None. The output of each
    encoder is concatenated with the input of the decoder of the same level: (upsampled, skip).

    Args:
        encoders: Blocks, the outermost level first.
        downs: Downsampling modules, one after each encoder.
        middle: The bottleneck block.
        ups: Upsampling modules, one before each decoder.
        decoders: Blocks, the innermost level first.
        frame_multiple: The number of frames inside must be a multiple of this.

    Shape:
        - Input: (batch, channel, frames, bins), any number of frames from 1 on; they are
          zero-padded, and the output is cropped.
        - Output: (batch, channel of the last decoder, frames, bins)
    """

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        downs: Sequence[nn.Module],
        middle: nn.Module,
        ups: Sequence[nn.Module],
        decoders: Sequence[nn.Module],
        *,
        frame_multiple: int,
    ) -> None:
        super().__init__()
        self.encoders, self.downs = nn.ModuleList(encoders), nn.ModuleList(downs)
        self.middle = middle
        self.ups, self.decoders = nn.ModuleList(ups), nn.ModuleList(decoders)
        self.frame_multiple = frame_multiple

    @property
    def num_blocks(self) -> int:
        """Number of blocks, each of which may have a condition."""
        return len(self.encoders) + 1 + len(self.decoders)

    def forward(
        self, features: Tensor, conditions: Sequence[Condition | None] | None = None
    ) -> Tensor:
        """Transform features.

        Args:
            features: Shape (batch, channel, frames, bins).
            conditions: One per block: encoders, middle, decoders.

        Returns:
            Shape (batch, channel, frames, bins).
        """
        frames = features.shape[2]
        features = pad(features, (0, 0, 0, -frames % self.frame_multiple))
        told = iter(conditions or [None] * self.num_blocks)
        skipped = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features, next(told))
            skipped.append(features)
            features = down(features)
        features = self.middle(features, next(told))
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            features = torch.cat([up(features), skipped.pop()], dim=1)
            features = decoder(features, next(told))
        return features[:, :, :frames]


class InnermostLevel(nn.Module):
    """The innermost level of strided U-Nets: one convolution down and one up, nothing between."""

    def __init__(self, down: nn.Module, up: nn.Module) -> None:
        super().__init__()
        self.down, self.up = down, up

    def forward(self, features: Tensor, condition: Condition | None) -> Tensor:
        """Apply both; the shape stays."""
        return self.up(self.down(features, condition))  # type: ignore[no-any-return]
