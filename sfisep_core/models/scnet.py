"""SCNet: spectra of sources from stereo spectra, by convolutions of bands and recurrent layers.

Source: Tong, Zhu, Chen, Kang, Jiang, Li, Wu and Meng, "SCNet: sparse compression network for music
source separation", ICASSP 2024, and its program (starrytong/SCNet, MIT).
"""

import math
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from sfisep_core.audio.stft import STFTConfig
from sfisep_core.config_values import Range
from sfisep_core.models.blocks.scnet import SCNetNetwork
from sfisep_core.models.blocks.scnet_bands import SCNetNetworkConfig
from sfisep_core.models.contract import GainRule
from sfisep_core.models.spectrogram_model import SpectrogramConfig, SpectrogramModel

# Added to the standard deviation of spectra. The published program adds it to that of tracks of
# unit level; in quiet ones it would be heard, and is no more than the share below.
_EPS = 1e-5
_EPS_SHARE = 1e-4


@dataclass(frozen=True)
class SCNetConfig(SpectrogramConfig):
    """Settings of SCNet; the defaults are those of the published small model.

    Attributes:
        stft: Short-time Fourier transform whose spectra the network takes; the published one has
            rectangular windows.
        segment_seconds: Seconds of a segment of a long signal; with the context on both sides it
            has 11 s by default, the length of training. 0 = the whole signal.
        network: Size of the network.
    """

    stft: STFTConfig = field(
        default_factory=lambda: STFTConfig(
            n_fft=4096, hop=1024, window="rectangular", scale="ortho"
        )
    )
    gain_rule: GainRule = "mixture-consistent"
    segment_seconds: Annotated[int, Range(0, 3600)] = 9
    context_seconds: Annotated[float, Range(0, 600)] = 1
    network: SCNetNetworkConfig = field(default_factory=SCNetNetworkConfig)


class SCNet(SpectrogramModel):
    """SCNet: one network from the spectra of two channels to those of all sources.

    Norms and recurrent layers hear all of a segment. Its spectra are normalised by the mean and the
    standard deviation of all bins of both channels. Bins above half the rate are among them, as
    zeros: so they are in the spectra of a recording that was resampled to the native rate, which
    the network knows.

    Args:
        config: Settings.

    Raises:
        ConfigError: A setting does not fit another.
    """

    family = "scnet"
    config: SCNetConfig
    network: SCNetNetwork

    def __init__(self, config: SCNetConfig) -> None:
        super().__init__(config, channels=2, chunk_invariant=False)
        self.network = SCNetNetwork(
            config.network,
            num_bins=config.stft.num_bins,
            num_parts=4,
            num_sources=len(config.sources),
        )

    def hops_to_cover(self, length: int, sample_rate: int) -> int:
        """Count the hops up to the first frame behind the signal that makes their number even."""
        hops = math.floor(length / self.stft.hop(sample_rate)) + 1
        return hops + 1 - hops % 2  # one frame more than hops

    def loses_band(self, sample_rate: int) -> bool:
        """Tell whether there is a band above that of training.

        Rectangular windows end within a sample at rates at which they are no whole number of
        samples. What the transform loses there (-37 to -57 dB) has all frequencies: `gain_rule`
        shares it.
        """
        return sample_rate > self.native_rate

    def estimate(self, spectra: Tensor) -> Tensor:
        """Estimate spectra; see `SpectrogramModel.estimate`."""
        parts = torch.view_as_real(spectra).movedim(-1, 2).flatten(1, 2)  # L re, L im, R re, R im
        deviation, mean = torch.std_mean(parts, dim=(1, 2, 3), keepdim=True)
        floor = (_EPS_SHARE * deviation).clamp(torch.finfo(parts.dtype).tiny, _EPS)
        outputs = self.network((parts - mean) / (deviation + floor)).float()
        outputs = outputs * deviation.unsqueeze(1) + mean.unsqueeze(1)
        outputs = outputs.unflatten(2, (2, 2)).movedim(3, -1).contiguous()
        return torch.view_as_complex(outputs)
