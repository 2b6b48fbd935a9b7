"""TFC-TDF U-Nets and LaSAFT: complex spectra in, complex spectra out.

Source: Choi, Kim, Chung, Lee and Jung, "Investigating U-Nets with various intermediate blocks for
spectrogram-based singing voice separation", ISMIR 2020; Choi, Kim, Chung and Jung, "LaSAFT: latent
source attentive frequency transformation for conditioned source separation", ICASSP 2021; Jeong,
Choi and Choi, "LightSAFT", MDX workshop 2021.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor

from sfisep_core.audio.stft import STFTConfig
from sfisep_core.config_values import Range
from sfisep_core.models.blocks.source_networks import SourceNetworks
from sfisep_core.models.blocks.tfc_unet import TFCUNet, TFCUNetConfig
from sfisep_core.models.contract import GainRule
from sfisep_core.models.spectrogram_model import SpectrogramConfig, SpectrogramModel


@dataclass(frozen=True)
class ComplexUNetConfig(SpectrogramConfig):
    """Settings of a TFC-TDF U-Net; the defaults are those of the small published network.

    Attributes:
        network: Structure and size of each source's network, or of the one conditioned network.
        channels: Channels that are separated together; with 1 each is separated by itself.
        output: Output of the network: the source's "spectrum", or a complex "mask" whose real and
            imaginary parts lie between -1 and 1.
    """

    stft: STFTConfig = field(default_factory=lambda: STFTConfig(n_fft=2048, hop=1024))
    gain_rule: GainRule = "mixture-consistent"
    normalizes_level: bool = True
    # The receptive field of the small network is 2.9 s to either side
    context_seconds: Annotated[float, Range(0, 600)] = 4
    network: TFCUNetConfig = field(default_factory=TFCUNetConfig)
    channels: Literal[1, 2] = 2
    output: Literal["spectrum", "mask"] = "spectrum"


class ComplexUNet(SpectrogramModel):
    """TFC-TDF U-Net: one network per source, or one conditioned network (LaSAFT, LightSAFT).

    Args:
        config: Settings.

    Raises:
        ConfigError: Settings contradict each other.
    """

    family = "tfc-unet"
    config: ComplexUNetConfig

    def __init__(self, config: ComplexUNetConfig) -> None:
        reach = config.network.reach_frames * config.stft.hop + config.stft.n_fft
        super().__init__(
            config,
            channels=config.channels,
            chunk_invariant=reach <= config.context_seconds * config.native_rate,
            frame_step=config.network.frame_multiple,
        )
        count = len(config.sources)
        make = partial(
            TFCUNet,
            config.network,
            num_bins=config.stft.num_bins,
            num_channels=2 * config.channels,
            num_sources=count,
        )
        told = torch.arange(count) if config.network.knows_sources else None
        self.network = SourceNetworks(make, count, told)

    def estimate(self, spectra: Tensor) -> Tensor:
        """Estimate spectra; see `SpectrogramModel.estimate`."""
        parts = torch.cat([spectra.real, spectra.imag], dim=1).transpose(-1, -2)
        outputs = self.network(parts).float().transpose(-1, -2)  # (B, S, 2 C, bins, frames)
        if self.config.output == "mask":
            outputs = torch.tanh(outputs)
        real, imag = outputs.chunk(2, dim=2)
        estimates = torch.complex(real.contiguous(), imag.contiguous())
        if self.config.output == "mask":
            return estimates * spectra.unsqueeze(1)
        # A network with biases gives a non-zero output for digital silence too.
        sounds = (spectra != 0).any(dim=2, keepdim=True).any(dim=1, keepdim=True)
        return estimates * sounds.unsqueeze(1)
