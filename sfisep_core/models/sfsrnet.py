"""SFSRNet: a dual-path transformer with staged estimates, then super-resolution.

Source: Rixen and Renz, "SFSRNet: Super-resolution for single-channel audio source separation",
AAAI 2022.
"""

from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from sfisep_core.config_values import Range, SampleRate
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.conv_transformer import StagedNetwork
from sfisep_core.models.blocks.dual_path import DualPathConfig
from sfisep_core.models.blocks.super_resolution import SuperResolution, SuperResolutionConfig
from sfisep_core.models.time_domain_model import TimeDomainConfig, TimeDomainModel


@dataclass(frozen=True)
class SFSRNetConfig(TimeDomainConfig):
    """Settings of an SFSRNet; the defaults are the published ones.

    Attributes:
        network: Dual-path transformer that estimates the masks.
        stage_rates: Hz, one per block: its estimates are trained in the band of this rate.
        super_resolution: Network that restores the high frequencies after the last block.

    Raises:
        ConfigError: There are not as many rates as blocks, or one is above the native rate.
    """

    num_filters: Annotated[int, Range(1, 4096)] = 256
    network: DualPathConfig = field(
        default_factory=lambda: DualPathConfig(
            chunk_frames=50, num_blocks=8, intra_layers=2, inter_layers=2, hidden_features=512
        )
    )
    stage_rates: tuple[SampleRate, ...] = (
        500,
        1000,
        2000,
        3000,
        4000,
        5000,
        8000,
        8000,
    )
    super_resolution: SuperResolutionConfig = field(default_factory=SuperResolutionConfig)

    def __post_init__(self) -> None:
        """Check names, sizes and rates."""
        super().__post_init__()
        fit = all(1 <= rate <= self.native_rate for rate in self.stage_rates)
        if len(self.stage_rates) != self.network.num_blocks or not fit:
            msg = (
                f"stage_rates: expected {self.network.num_blocks} rates, one a block, of 1 to "
                f"{self.native_rate} Hz, got {list(self.stage_rates)}"
            )
            raise ConfigError(msg)


class SFSRNet(TimeDomainModel):
    """SFSRNet: estimates refined from block to block, then restored by super-resolution.

    It works at the sampling frequency of its training.

    Args:
        config: Settings.

    Raises:
        ConfigError: Settings contradict each other.
    """

    family = "sfsrnet"

    def __init__(self, config: SFSRNetConfig) -> None:
        masker = StagedNetwork(
            config.network, num_features=config.num_filters, num_sources=len(config.sources)
        )
        # Attention depends on a whole segment.
        super().__init__(config, masker, padded=False, rectified=True, chunk_invariant=False)
        self.stage_rates = config.stage_rates
        self.super_resolution = SuperResolution(
            config.super_resolution, num_sources=len(config.sources), native_rate=config.native_rate
        )

    def refine(self, estimates: Tensor, mixture: Tensor) -> Tensor:
        """Restore the last stage's estimates; see `MaskModel.refine`."""
        restored = self.super_resolution(estimates[:, -len(self.sources) :], mixture)
        return torch.cat([estimates, restored], dim=1) if self.training else restored
