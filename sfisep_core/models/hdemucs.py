"""Hybrid Demucs: a U-Net on samples and one on spectra that meet in the middle, by torchaudio.

Source: Défossez, "Hybrid spectrogram and waveform source separation", MDX workshop at ISMIR 2021;
network: `torchaudio.models.HDemucs`; normalisation and segments: torchaudio's tutorial for it.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.audio.torchaudio_check import check_torchaudio
from sfisep_core.config_values import Range, SampleRate
from sfisep_core.models.blocks.channel_groups import separate_in_groups
from sfisep_core.models.blocks.consistency import share_residual
from sfisep_core.models.contract import FamilyConfig, GainRule, SeparationModel

# Reflected ends of shorter signals would not fit, where the network adds up to 2,559 samples.
_SHORTEST = 2560


@dataclass(frozen=True)
class HDemucsConfig(FamilyConfig):
    """Settings of Hybrid Demucs; the defaults are those of torchaudio's large-window version.

    Attributes:
        native_rate: Hz, the sampling frequency of training, the only one at which the network
            works.
        channels: Output channels of the first layer; those of the published weights are 48.
        segment_seconds: Seconds of a segment of a long signal; with the context on both sides it
            has 11 s by default, as in torchaudio's tutorial. 0 = the whole signal.
    """

    native_rate: SampleRate = 44100
    channels: Annotated[int, Range(4, 1024)] = 48
    gain_rule: GainRule = "mixture-consistent"
    segment_seconds: Annotated[int, Range(0, 3600)] = 10


class HDemucs(SeparationModel):
    """Hybrid Demucs at the rate of its training.

    Every segment is divided by the standard deviation of its mean over channels, as the tutorial
    does with the whole track. The network normalises its inputs itself: without this it would add
    to the standard deviation of quiet music a number that is not small beside it.

    Args:
        config: Settings.

    Raises:
        ConfigError: A setting does not fit the network, or torchaudio cannot be loaded.
    """

    family = "hdemucs"
    config: HDemucsConfig

    def __init__(self, config: HDemucsConfig) -> None:
        super().__init__()
        self.configure(config, chunk_invariant=False)
        check_torchaudio("family hdemucs", instead="choose a model of another family")
        from torchaudio.models import HDemucs as Network

        self.network: nn.Module = Network(
            list(config.sources), channels=config.channels, nfft=4096, depth=6
        )

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture; see `SeparationModel.forward`."""
        self.require_native_rate(sample_rate)
        batch, channels, length = mixture.shape
        if mixture.numel() == 0:
            return mixture.new_zeros(batch, len(self.sources), channels, length)
        stems = separate_in_groups(mixture, self._separate_stereo, channels=2)
        if self.gain_rule == "mixture-consistent":
            stems = share_residual(stems, mixture, sample_rate=sample_rate)
        return stems

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile the network in place."""
        self.network.compile(dynamic=dynamic)

    def _separate_stereo(self, mixture: Tensor) -> Tensor:
        """Separate (batch, 2, time) into (batch, source, 2, time)."""
        mono = mixture.mean(dim=1, keepdim=True)
        deviation, mean = torch.std_mean(mono, dim=-1, correction=0, keepdim=True)
        # Two channels may cancel each other in the mean, and a recording may be silent.
        loudest = (mixture - mean).abs().amax(dim=(1, 2), keepdim=True)
        floor = (1e-3 * loudest).clamp_min(torch.finfo(mixture.dtype).tiny)
        deviation = torch.maximum(deviation, floor)
        length = mixture.shape[-1]
        inputs = functional.pad((mixture - mean) / deviation, (0, max(0, _SHORTEST - length)))
        stems: Tensor = self.network(inputs)[..., :length].float()
        return stems * deviation.unsqueeze(1) + mean.unsqueeze(1)
