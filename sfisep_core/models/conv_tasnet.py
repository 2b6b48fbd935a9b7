"""Conv-TasNet: a temporal convolutional network masks the output of a learned encoder.

Source: Luo and Mesgarani, "Conv-TasNet: surpassing ideal time-frequency magnitude masking for
speech separation", IEEE/ACM TASLP 27:1256-1266, 2019.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from sfisep_core.models.blocks.norms import make_norm
from sfisep_core.models.blocks.tcn import TCNConfig, TCNLayers
from sfisep_core.models.time_domain_model import TimeDomainConfig, TimeDomainModel

MaskKind = Literal["sigmoid", "relu"]


@dataclass(frozen=True)
class ConvTasNetConfig(TimeDomainConfig):
    """Settings of a Conv-TasNet; the defaults are the sizes of torchaudio's.

    Attributes:
        mask: Activation of the masks: "sigmoid" (0 to 1) or "relu" (0 or more).
        tcn: Temporal convolutional network that estimates the masks.
    """

    mask: MaskKind = "sigmoid"
    tcn: TCNConfig = field(
        default_factory=lambda: TCNConfig(
            bottleneck_channels=128,
            hidden_channels=512,
            kernel_size=3,
            num_layers=8,
            num_stacks=3,
            norm_groups=1,
        )
    )


class ConvTasNet(TimeDomainModel):
    """Conv-TasNet: masks on the latent of a learned encoder, at its training's sampling frequency.

    Args:
        config: Settings.

    Raises:
        ConfigError: Settings contradict each other.
    """

    family = "conv-tasnet"

    def __init__(self, config: ConvTasNetConfig) -> None:
        masker = PlainMaskNetwork(
            config.tcn,
            num_features=config.num_filters,
            num_sources=len(config.sources),
            mask=config.mask,
        )
        reach = _reach_frames(config.tcn) * config.stride + config.kernel_size
        super().__init__(
            config,
            masker,
            padded=True,
            rectified=False,
            chunk_invariant="global" not in config.tcn.norms
            and reach <= config.context_seconds * config.native_rate,
        )


class PlainMaskNetwork(nn.Module):
    """From latent features to a mask per source; the masks need not add up to one.

    Args:
        config: Sizes.
        num_features: Channels of the latent <N>.
        num_sources: Sources <C>.
        mask: Activation of the output.

    Shape:
        - Input: (batch, num_features, frames)
        - Output: (batch, num_sources, num_features, frames)
    """

    def __init__(
        self, config: TCNConfig, *, num_features: int, num_sources: int, mask: MaskKind
    ) -> None:
        super().__init__()
        self.num_sources = num_sources
        self.norm = make_norm(
            config.first_norm,
            num_features,
            networks=1,
            norm_groups=config.norm_groups,
            window=config.norm_window,
        )
        self.conv_in = nn.Conv1d(num_features, config.bottleneck_channels, 1)
        self.layers = TCNLayers(config, networks=1, bias=True, last_residual=False)
        self.prelu = nn.PReLU()
        self.conv_out = nn.Conv1d(config.bottleneck_channels, num_sources * num_features, 1)
        self.activation = torch.sigmoid if mask == "sigmoid" else torch.relu

    def forward(self, latent: Tensor) -> Tensor:
        """Estimate masks; see the class."""
        skip_sum = self.layers(self.conv_in(self.norm(latent)))  # (B, bottleneck, frames)
        masks: Tensor = self.activation(self.conv_out(self.prelu(skip_sum)))  # (B, C N, frames)
        return masks.view(len(latent), self.num_sources, *latent.shape[1:])


def _reach_frames(config: TCNConfig) -> int:
    """Compute on how many frames to either side a mask depends, where no norm spans all time."""
    layers = config.num_stacks * config.num_layers
    dilations: int = config.num_stacks * (2**config.num_layers - 1)
    windows = [config.first_norm, *[config.norm] * (2 * layers)].count("window")
    return dilations * (config.kernel_size // 2) + windows * (config.norm_window // 2)
