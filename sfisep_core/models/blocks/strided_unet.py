"""The U-Net of strided convolutions on magnitudes, with or without conditioning.

Source: Jansson et al., "Singing voice separation with deep U-Net convolutional networks", ISMIR
2017; Meseguer-Brocal and Peeters, "Conditioned-U-Net", ISMIR 2019.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad

from sfisep_core.config_values import Range
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.conditioning import ConvControl, DenseControl, film
from sfisep_core.models.blocks.doubling import KERNEL, Doubling
from sfisep_core.models.blocks.unet import Condition, InnermostLevel, LevelsConfig, UNet

_SLOPE, _EPS = 0.2, 1e-3
_DROPPED = 3  # number of decoders with dropout of 0.5, from the innermost on


@dataclass(frozen=True)
class StridedUNetConfig(LevelsConfig):
    """Size of the network; the defaults are Jansson's.

    Attributes:
        control: "none": one network for each source. Otherwise one network is told the source, and
            this is what computes its factors and offsets from it: "dense" layers, or convolutions
            ("cnn").
        film: Whether these are one factor and one offset for each encoder ("simple") or for each of
            its channels ("complex").
        control_widths: Widths of the three layers of the control network.

    Raises:
        ConfigError: A size is out of range.
    """

    control: Literal["none", "dense", "cnn"] = "none"
    film: Literal["simple", "complex"] = "simple"
    control_widths: tuple[Annotated[int, Range(1, 65536)], ...] = (16, 64, 256)

    def __post_init__(self) -> None:
        """Check values and their number."""
        super().__post_init__()
        if len(self.control_widths) != 3:
            msg = (
                "model setting network.control_widths: expected three widths, got "
                f"{list(self.control_widths)}"
            )
            raise ConfigError(msg)

    @property
    def reach_frames(self) -> int:
        """Receptive field to either side of an output, in frames."""
        return 2 * (KERNEL // 2 + 1) * (self.multiple - 1)


class StridedUNet(nn.Module):
    """From magnitudes to a mask between 0 and 1.

    Args:
        config: Settings.
        num_conditions: Length of a condition; ignored without conditioning.

    Shape:
        - Input: (batch, 1, frames, bins), any number of frames, bins a multiple of
          `config.multiple`;
          with a control, conditions of shape (batch, num_conditions)
        - Output: as the input
    """

    def __init__(self, config: StridedUNetConfig, *, num_conditions: int = 4) -> None:
        super().__init__()
        channels = config.channels
        simple = config.film == "simple"
        self._sizes = [1 if simple else size for size in channels]
        *encoders, last = [_Down(size, following) for size, following in pairwise((1, *channels))]
        inward = channels[::-1]
        first, *decoders = [
            _Up(size if place == 0 else 2 * size, following, place)
            for place, (size, following) in enumerate(pairwise((*inward, 1)))
        ]
        decoders[-1].activation = nn.Sigmoid()
        nothing = [nn.Identity() for _ in encoders]
        middle = InnermostLevel(last, first)
        self.unet = UNet(
            encoders, nothing, middle, nothing, decoders, frame_multiple=config.multiple
        )
        self.control: DenseControl | ConvControl | None = None
        if config.control != "none":
            kind = DenseControl if config.control == "dense" else ConvControl
            self.control = kind(num_conditions, config.control_widths, eps=_EPS)
            self.gamma = nn.Linear(config.control_widths[-1], sum(self._sizes))
            self.beta = nn.Linear(config.control_widths[-1], sum(self._sizes))
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        if self.control is not None:
            nn.init.ones_(self.gamma.bias)  # published: 0, with which the initial output is 0

    def forward(self, magnitudes: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Estimate masks; see the class."""
        if self.control is None:
            return self.unet(magnitudes)  # type: ignore[no-any-return]
        assert conditions is not None
        features = self.control(conditions)
        gammas = self.gamma(features).split(self._sizes, dim=1)
        betas = self.beta(features).split(self._sizes, dim=1)
        told: list[Condition | None] = [
            Condition(conditions, gamma, beta) for gamma, beta in zip(gammas, betas, strict=True)
        ]
        free = self.unet.num_blocks - len(told)  # decoders are not conditioned
        return self.unet(magnitudes, [*told, *[None] * free])  # type: ignore[no-any-return]


class _Down(nn.Module):
    """Halve frames and bins."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, channels, KERNEL, stride=2)
        self.norm = nn.BatchNorm2d(channels, eps=_EPS)

    def forward(self, features: Tensor, condition: Condition | None) -> Tensor:
        # TensorFlow's "same" padding: one zero before and two after.
        features = self.norm(self.convolution(pad(features, (1, 2, 1, 2))))
        if condition is not None:
            assert condition.gamma is not None
            assert condition.beta is not None
            features = film(features, condition.gamma, condition.beta)
        return leaky_relu(features, _SLOPE)


class _Up(nn.Module):
    """Double frames and bins."""

    def __init__(self, in_channels: int, channels: int, place: int) -> None:
        super().__init__()
        self.convolution = Doubling(in_channels, channels)
        self.norm = nn.BatchNorm2d(channels, eps=_EPS)
        self.dropout = nn.Dropout(0.5 if place < _DROPPED else 0.0)
        self.activation: nn.Module = nn.ReLU()

    def forward(self, features: Tensor, condition: Condition | None = None) -> Tensor:
        del condition
        features = self.convolution(features)
        return self.activation(self.dropout(self.norm(features)))  # type: ignore[no-any-return]
