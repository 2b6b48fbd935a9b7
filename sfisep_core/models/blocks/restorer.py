"""Distribute over the sources what a low sampling frequency loses of their mixture.

Source: Rixen and Renz, "SFSRNet: Super-resolution for single-channel audio source separation",
AAAI 2022 (evidence and network; masks that add up to one are an addition).
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from sfisep_core.audio.stft import STFT, STFTConfig
from sfisep_core.config_values import CheckedConfig, PositiveShare, Range
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.masks import ratio_mask
from sfisep_core.models.blocks.super_resolution import SuperResolutionNetwork

# Band of the evidence relative to the low rate; above it lies the resampler's transition band.
_BAND = (0.25, 0.45)
# Smallest share (-40 dB), which keeps logarithms finite.
_LEAST_SHARE = 1e-2
# Features are decibels / 20 relative to the level, with a floor of -80 dB.
_LEAST_MAGNITUDE = 1e-4


@dataclass(frozen=True)
class RestorerConfig(CheckedConfig):
    """Settings of a restorer.

    Attributes:
        network: Whether a network corrects the shares in which the sources divide the band; without
            it they are those just below the band.
        window_seconds: Seconds of a window of the transform; the hop is a quarter of it.
        widths: Channels of the network's inner convolutions.

    Raises:
        ConfigError: The window is not above 0 and at most 1, or there are not three widths of at
            least 1.
    """

    section = "model setting restorer."

    network: bool = True
    window_seconds: PositiveShare = 0.032
    widths: tuple[Annotated[int, Range(1, 4096)], ...] = (16, 32, 16)

    def __post_init__(self) -> None:
        """Check values and the number of widths."""
        super().__post_init__()
        if len(self.widths) != 3:  # as many as norms
            msg = f"model setting restorer.widths: expected three widths, got {list(self.widths)}"
            raise ConfigError(msg)


class Restorer(nn.Module):
    """Masks, which add up to one, for the part of a mixture above the band of a low rate.

    A source's share of a frame is its share in the upper half of the low band. A network of 2-D
    convolutions over bins and frames may add a correction to the logarithm of these shares in every
    bin; before training the correction is 0. The window has the same duration at every sampling
    frequency, and convolutions take any number of bins, so one network works at all rates.

    Args:
        config: Settings.
        num_sources: Number of sources.

    Attributes:
        transform: Kind of the short-time Fourier transform.
    """

    transform: type[STFT] = STFT

    def __init__(self, config: RestorerConfig, *, num_sources: int) -> None:
        super().__init__()
        self.config = config
        self.network: SuperResolutionNetwork | None = None
        if config.network:
            self.network = SuperResolutionNetwork(num_sources, config.widths)
            last = self.network.convs[-1]
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, stems: Tensor, mixture: Tensor, *, sample_rate: int, low_rate: int) -> Tensor:
        """Compute every source's share of the residual.

        Args:
            stems: Band-limited to half of `low_rate`, shape (batch, source, time), one sample or
                more.
            mixture: Shape (batch, time).
            sample_rate: Sample rate of both in Hz.
            low_rate: Hz, below `sample_rate`.

        Returns:
            Signals to add to the stems, same shape; the sums then add up to the mixture.
        """
        length = stems.shape[-1]
        with torch.autocast(stems.device.type, enabled=False):
            quarter = max(1, round(self.config.window_seconds * sample_rate / 4))
            stft = self.transform(STFTConfig(n_fft=4 * quarter, hop=quarter), sample_rate)
            whole, parts = (
                stft.analyze(signals, sample_rate=sample_rate).abs()
                for signals in (mixture[:, None], stems)
            )
            lost = stft.analyze(mixture - stems.sum(dim=1), sample_rate=sample_rate)
            first, last = (math.ceil(part * low_rate * 4 * quarter / sample_rate) for part in _BAND)
            level = whole.square().mean(dim=(-2, -1), keepdim=True).sqrt()
            evidence = parts[:, :, first : max(last, first + 1)].sum(dim=2, keepdim=True)
            shares = ratio_mask(evidence / level.clamp_min(torch.finfo(level.dtype).tiny))
        if self.network is not None:
            guess = torch.cat(
                [torch.zeros_like(parts[:, :, :last]), (shares * whole)[:, :, last:]], 2
            )
            features = torch.cat([whole, parts, guess], dim=1)
            features = features / level.clamp_min(torch.finfo(level.dtype).tiny)
            correction = self.network((features + _LEAST_MAGNITUDE).log10())
            with torch.autocast(stems.device.type, enabled=False):
                logarithms = shares.clamp_min(_LEAST_SHARE).log() + correction.to(shares.dtype)
                shares = logarithms.softmax(dim=1)
        with torch.autocast(stems.device.type, enabled=False):
            return stft.synthesize(shares * lost[:, None], sample_rate=sample_rate, length=length)
