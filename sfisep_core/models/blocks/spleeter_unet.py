"""Spleeter's U-Net: Jansson's, with skips taken before the norms and one more convolution.

Source: Hennequin et al., "Spleeter: a fast and efficient music source separation tool with
pre-trained models", JOSS 2020, and its program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import elu, leaky_relu, pad, relu

from sfisep_core.models.blocks.doubling import KERNEL, Doubling
from sfisep_core.models.blocks.unet import Condition, InnermostLevel, LevelsConfig, UNet

Activation = Literal["leaky-relu", "relu", "elu"]

_SLOPE, _EPS, _MOMENTUM = 0.2, 1e-3, 0.01
_LAST_KERNEL, _LAST_DILATION = 4, 2
_DROPPED = 3  # number of decoders with dropout of 0.5, from the innermost on

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "leaky-relu": lambda features: leaky_relu(features, _SLOPE),
    "relu": relu,
    "elu": elu,
}


@dataclass(frozen=True)
class SpleeterUNetConfig(LevelsConfig):
    """Size of the network; the defaults are those of the published model of two stems.

    Raises:
        ConfigError: A size is out of range.
    """

    encoder_activation: Activation = "leaky-relu"
    decoder_activation: Activation = "relu"


class SpleeterUNet(nn.Module):
    """From magnitudes of two channels to logits of masks for them.

    Args:
        config: Settings.

    Shape:
        - Input: (batch, 2, frames, bins), any number of frames, bins a multiple of
          `config.multiple`
        - Output: as the input
    """

    def __init__(self, config: SpleeterUNetConfig) -> None:
        super().__init__()
        channels, up = config.channels, _ACTIVATIONS[config.decoder_activation]
        *encoders, last = [_Down(size, following) for size, following in pairwise((2, *channels))]
        first, *decoders = [
            _Up(size if place == 0 else 2 * size, following, up, dropout=place < _DROPPED)
            for place, (size, following) in enumerate(pairwise((*channels[::-1], 1)))
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
        self.last = nn.Conv2d(1, 2, _LAST_KERNEL, dilation=_LAST_DILATION, padding=3)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

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

    def __init__(self, channels: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM)
        self._activation = activation

    def forward(self, features: Tensor) -> Tensor:
        return self._activation(self.norm(features))


class _Up(nn.Module):
    """Double frames and bins; the norm follows the activation."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        activation: Callable[[Tensor], Tensor],
        *,
        dropout: bool,
    ) -> None:
        super().__init__()
        self.convolution = Doubling(in_channels, channels)
        self.norm = nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM)
        self.dropout = nn.Dropout(0.5 if dropout else 0.0)
        self._activation = activation

    def forward(self, features: Tensor, condition: Condition | None = None) -> Tensor:
        del condition
        features = self.convolution(features)
        return self.dropout(self.norm(self._activation(features)))  # type: ignore[no-any-return]
