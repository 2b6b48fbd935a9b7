"""Spleeter's U-Net: Jansson's, with skips taken before the norms and one more convolution.

Source: Hennequin et al., "Spleeter: a fast and efficient music source separation tool with
pre-trained models", JOSS 2020, and its program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, leaky_relu, pad, relu

from sfisep_core.config_values import Range, ShareBelowOne
from sfisep_core.models.blocks.doubling import KERNEL, Doubling
from sfisep_core.models.blocks.unet import Condition, InnermostLevel, LevelsConfig, UNet

Activation = Literal["leaky-relu", "relu", "elu"]

_SLOPE, _EPS, _MOMENTUM = 0.2, 1e-3, 0.01
_LAST_KERNEL, _LAST_DILATION = 4, 2
_DROPPED = 3  # number of decoders with dropout, from the innermost on

# Called with the features, and whether to overwrite them.
_ACTIVATIONS: dict[Activation, Callable[[Tensor, bool], Tensor]] = {
    "leaky-relu": lambda features, inplace: leaky_relu(features, _SLOPE, inplace),
    "relu": relu,
    "elu": lambda features, inplace: elu(features, inplace=inplace),
}


@dataclass(frozen=True)
class SpleeterUNetConfig(LevelsConfig):
    """Size of the network; the defaults are those of the published model of two stems.

    Attributes:
        encoder_activation: Activation after the encoders' norms.
        decoder_activation: Activation before the decoders' norms.
        last_channels: Channels of the last decoder, from which the last convolution makes all
            masks.
        dropout: Probability of dropout in the three innermost decoders.
        fixed_norms: Whether batch norms use their running statistics, and keep them, in training
            too: for networks that are fine-tuned in small batches.

    Raises:
        ConfigError: A size is out of range.
    """

    encoder_activation: Activation = "leaky-relu"
    decoder_activation: Activation = "relu"
    last_channels: Annotated[int, Range(1, 4096)] = 1
    dropout: ShareBelowOne = 0.5
    fixed_norms: bool = False


class SpleeterUNet(nn.Module):
    """From magnitudes of two channels to logits of masks for them.

    Args:
        config: Settings.
        num_masks: Number of masks for each of the two channels.

    Shape:
        - Input: (batch, 2, frames, bins), any number of frames, bins a multiple of
          `config.multiple`
        - Output: (batch, 2 num_masks, frames, bins), the two channels of a mask side by side
    """

    def __init__(self, config: SpleeterUNetConfig, *, num_masks: int = 1) -> None:
        super().__init__()
        self._fixed_norms = config.fixed_norms
        channels, up = config.channels, _ACTIVATIONS[config.decoder_activation]
        *encoders, last = [_Down(size, following) for size, following in pairwise((2, *channels))]
        first, *decoders = [
            _Up(
                size if place == 0 else 2 * size,
                following,
                up,
                dropout=config.dropout if place < _DROPPED else 0.0,
            )
            for place, (size, following) in enumerate(
                pairwise((*channels[::-1], config.last_channels))
            )
        ]
        down = _ACTIVATIONS[config.encoder_activation]
        self.unet = UNet(
            encoders,
            [_Normed(size, down) for size in channels[:-1]],
            InnermostLevel(last, first),
            [nn.Identity() for _ in decoders],
            decoders,
            frame_multiple=config.multiple,
        )
        self.last = nn.Conv2d(
            config.last_channels, 2 * num_masks, _LAST_KERNEL, dilation=_LAST_DILATION, padding=3
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; fixed norms stay in evaluation mode."""
        super().train(mode)
        if self._fixed_norms:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Estimate logits; see the class."""
        logits: Tensor = self.last(self.unet(magnitudes))
        return logits


class _Down(nn.Module):
    """Halve frames and bins. The output is also the skip connection; the norm follows later."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, channels, KERNEL, stride=2)

    def forward(self, features: Tensor, condition: Condition | None = None) -> Tensor:
        del condition
        # TensorFlow's "same" padding of even sizes: one zero before and two after.
        return self.convolution(pad(features, (1, 2, 1, 2)))  # type: ignore[no-any-return]


class _Normed(nn.Module):
    """Norm and activation in the encoder, after the skip connection."""

    def __init__(self, channels: int, activation: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM)
        self._activation = activation

    def forward(self, features: Tensor) -> Tensor:
        features = self.norm(features)
        return self._activation(features, not torch.is_grad_enabled())


class _Up(nn.Module):
    """Double frames and bins; the norm follows the activation."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        activation: Callable[[Tensor, bool], Tensor],
        *,
        dropout: float,
    ) -> None:
        super().__init__()
        self.convolution = Doubling(in_channels, channels)
        self.norm = nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM)
        self.dropout = nn.Dropout(dropout)
        self._activation = activation

    def forward(self, features: Tensor, condition: Condition | None = None) -> Tensor:
        del condition
        features = self.convolution(features)
        features = self._activation(features, not torch.is_grad_enabled())
        return self.dropout(self.norm(features))  # type: ignore[no-any-return]
