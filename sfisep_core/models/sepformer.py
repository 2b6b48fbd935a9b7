"""SepFormer: a dual-path transformer masks the output of a learned encoder.

Source: Subakan, Ravanelli, Cornell, Bronzi and Zhong, "Attention is all you need in speech
separation", ICASSP 2021.
"""

from dataclasses import dataclass, field
from typing import Annotated

from sfisep_core.config_values import Range
from sfisep_core.models.blocks.dual_path import DualPathConfig, DualPathNetwork
from sfisep_core.models.time_domain_model import TimeDomainConfig, TimeDomainModel


@dataclass(frozen=True)
class SepFormerConfig(TimeDomainConfig):
    """Settings of a SepFormer; the defaults are the published ones.

    Attributes:
        network: Dual-path transformer that estimates the masks.
    """

    num_filters: Annotated[int, Range(1, 4096)] = 256
    network: DualPathConfig = field(default_factory=DualPathConfig)


class SepFormer(TimeDomainModel):
    """SepFormer: masks from attention within chunks and across chunks.

    It works at the sampling frequency of its training.

    Args:
        config: Settings.

    Raises:
        ConfigError: Settings contradict each other.
    """

    family = "sepformer"

    def __init__(self, config: SepFormerConfig) -> None:
        masker = DualPathNetwork(
            config.network, num_features=config.num_filters, num_sources=len(config.sources)
        )
        # Attention and norms depend on a whole segment.
        super().__init__(config, masker, padded=False, rectified=True, chunk_invariant=False)
