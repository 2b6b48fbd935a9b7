"""U-Net and conditioned U-Net: masks of magnitudes from strided convolutions.

Source: Jansson et al., "Singing voice separation with deep U-Net convolutional networks", ISMIR
2017; Meseguer-Brocal and Peeters, "Conditioned-U-Net: introducing a control mechanism in the U-Net
for multiple source separations", ISMIR 2019.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from sfisep_core.audio.stft import STFTConfig
from sfisep_core.config_values import SampleRate
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.masks import mask_spectra
from sfisep_core.models.blocks.source_networks import SourceNetworks
from sfisep_core.models.blocks.strided_unet import StridedUNet, StridedUNetConfig
from sfisep_core.models.contract import GainRule
from sfisep_core.models.spectrogram_model import SpectrogramConfig, SpectrogramModel


@dataclass(frozen=True)
class MagnitudeUNetConfig(SpectrogramConfig):
    """Settings of a U-Net; the defaults are Jansson's.

    Jansson et al. divided magnitudes by the largest one of the recording. Here the level is
    normalised by the standard deviation, which does not depend on a single sample.

    Attributes:
        network: Size of each source's network, or of the one conditioned network.
    """

    native_rate: SampleRate = 8192
    stft: STFTConfig = field(default_factory=lambda: STFTConfig(n_fft=1024, hop=768, scale="ortho"))
    gain_rule: GainRule = "mixture-consistent"
    normalizes_level: bool = True
    network: StridedUNetConfig = field(default_factory=StridedUNetConfig)


class MagnitudeUNet(SpectrogramModel):
    """U-Net on magnitudes: one network per source, or one conditioned network (C-U-Net).

    Channels are separated independently.

    Args:
        config: Settings.

    Raises:
        ConfigError: Settings contradict each other.
    """

    family = "unet"
    config: MagnitudeUNetConfig

    def __init__(self, config: MagnitudeUNetConfig) -> None:
        reach = config.network.reach_frames * config.stft.hop + config.stft.n_fft
        super().__init__(
            config,
            channels=1,
            # The published receptive field is half a minute, longer than any useful context.
            chunk_invariant=reach <= config.context_seconds * config.native_rate,
            frame_step=config.network.multiple,
        )
        count = len(config.sources)
        told = None if config.network.control == "none" else torch.eye(count)
        make = partial(StridedUNet, config.network, num_conditions=count)
        self.network = SourceNetworks(make, count, told)
        multiple = config.network.multiple
        if config.stft.n_fft // 2 % multiple:
            msg = (
                f"U-Net of {len(config.network.channels)} levels: expected stft.n_fft to be a "
                f"multiple of {2 * multiple}, got {config.stft.n_fft}"
            )
            raise ConfigError(msg)

    def estimate(self, spectra: Tensor) -> Tensor:
        """Mask the spectra; see `SpectrogramModel.estimate`."""
        # The network leaves out the last bin, which gets the mask of the bin before it.
        magnitudes = spectra.abs()[:, :, :-1].transpose(-1, -2)  # (B, 1, frames, bins - 1)
        masks = self.network(magnitudes).float()
        masks = torch.cat([masks, masks[..., -1:]], dim=-1).transpose(-1, -2)
        return mask_spectra(masks, spectra)
