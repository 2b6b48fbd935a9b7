"""Restore the high frequencies of separated signals, with the mixture as evidence.

Source: Rixen and Renz, "SFSRNet: Super-resolution for single-channel audio source separation",
AAAI 2022.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.audio.stft import STFT, STFTConfig
from sfisep_core.config_values import CheckedConfig, Range
from sfisep_core.errors import ConfigError

Heuristic = Literal["paper", "share"]

_KERNELS = (5, 9, 11, 11)
# Relative to the mixture's level: below it is silence, for which no ratio is computed.
_EPS = 1e-8
# Bound of the ratio of mixture and estimate (40 dB); the paper has none.
_MOST = 100.0


@dataclass(frozen=True)
class SuperResolutionConfig(CheckedConfig):
    """Settings of a super-resolution network; the defaults are the published ones.

    Attributes:
        stft: The transform, with sizes at the model's native rate.
        widths: Channels of the three inner convolutions.
        heuristic: Initial guess of the high band, an input of the network: the mixture's times a
            ratio of the low bands. "share": estimate over mixture. "paper": mixture over estimate,
            as published; the weaker a source, the more it gets.

    Raises:
        ConfigError: There are not three widths of at least 1, or no such heuristic.
    """

    section = "model setting super_resolution."

    stft: STFTConfig = field(default_factory=lambda: STFTConfig(n_fft=256, hop=64))
    widths: tuple[Annotated[int, Range(1, 4096)], ...] = (128, 256, 128)
    heuristic: Heuristic = "share"

    def __post_init__(self) -> None:
        """Check values and the number of widths."""
        super().__post_init__()
        if len(self.widths) != len(_KERNELS) - 1:
            msg = (
                "model setting super_resolution.widths: expected three widths, got "
                f"{list(self.widths)}"
            )
            raise ConfigError(msg)


class SuperResolutionNetwork(nn.Module):
    """Four convolutions over bins and frames; the first three have a norm over channels.

    Args:
        num_sources: Sources <C>.
        widths: Channels of the inner convolutions.

    Shape:
        - Input: (batch, 1 + 2 num_sources, bins, frames)
        - Output: (batch, num_sources, bins, frames)
    """

    def __init__(self, num_sources: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (1 + 2 * num_sources, *widths, num_sources)
        self.convs = nn.ModuleList(
            nn.Conv2d(inner, outer, kernel, padding="same")
            for inner, outer, kernel in zip(sizes[:-1], sizes[1:], _KERNELS, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)

    def forward(self, features: Tensor) -> Tensor:
        """Run the network; see the class."""
        for conv, norm in zip(self.convs, self.norms, strict=False):
            features = norm(torch.relu(conv(features)).movedim(1, -1)).movedim(-1, 1)
        residual: Tensor = self.convs[-1](features)
        return residual


class SuperResolution(nn.Module):
    """Correct the magnitudes of estimates by a network that takes them and their mixture.

    Args:
        config: Settings.
        num_sources: Number of sources.
        native_rate: Hz, the rate at which the transform's sizes are given.
    """

    def __init__(
        self, config: SuperResolutionConfig, *, num_sources: int, native_rate: int
    ) -> None:
        super().__init__()
        self.stft = STFT(config.stft, native_rate)
        self.heuristic: Heuristic = config.heuristic
        self.network = SuperResolutionNetwork(num_sources, config.widths)

    def forward(self, estimates: Tensor, mixture: Tensor) -> Tensor:
        """Restore estimates.

        Args:
            estimates: Shape (batch, source, time), one sample or more.
            mixture: Shape (batch, time).

        Returns:
            Estimates with larger magnitudes and unchanged phases, same shape.
        """
        rate, length = self.stft.native_rate, estimates.shape[-1]
        with torch.autocast(estimates.device.type, enabled=False):
            spectra = self.stft.analyze(estimates, sample_rate=rate)
            magnitudes = spectra.abs()
            whole = self.stft.analyze(mixture, sample_rate=rate).abs()[:, None]
            bins = whole.shape[-2]
            high = heuristic(
                whole, magnitudes, low=bins - bins // 2, high=bins // 2, kind=self.heuristic
            )
            features = torch.cat([whole, magnitudes, high], dim=1)
        added = torch.relu(self.network(features))
        with torch.autocast(estimates.device.type, enabled=False):
            # Where an estimate is silent it has no phase, and stays silent.
            floor = _EPS * whole.amax(dim=(-2, -1), keepdim=True) + torch.finfo(whole.dtype).tiny
            phases = torch.where(magnitudes > floor, spectra / magnitudes.clamp_min(floor), 0.0)
            restored = spectra + added.to(magnitudes.dtype) * phases
            return self.stft.synthesize(restored, sample_rate=rate, length=length)


def heuristic(
    mixture: Tensor, estimates: Tensor, *, low: int, high: int, kind: Heuristic
) -> Tensor:
    """Guess the high band of estimates: the mixture's, in proportion to the low bands.

    Args:
        mixture: Magnitudes, shape (..., 1, bins, frames).
        estimates: Magnitudes, shape (..., source, bins, frames).
        low: Number of bins from which the ratio is computed.
        high: First bin of the high band.
        kind: The ratio of every frame. "share": estimate over mixture, 0 to 1; a silent source gets
            no high band. "paper": mixture over estimate, as published, at most 100; the weaker a
            source, the more it gets.

    Returns:
        Magnitudes, shape (..., source, bins, frames), 0 in the low band, and where the mixture or,
        with "paper", the estimate is silent.
    """
    all_low = mixture[..., :low, :].sum(dim=-2, keepdim=True)
    each_low = estimates[..., :low, :].sum(dim=-2, keepdim=True)
    tiny = torch.finfo(mixture.dtype).tiny
    floor = _EPS * all_low.amax(dim=-1, keepdim=True) + tiny
    if kind == "share":
        ratio = (each_low / all_low.clamp_min(floor)).clamp(max=1.0)
    else:
        audible = each_low > floor
        ratio = torch.where(audible, all_low / each_low.clamp_min(floor), 0.0).clamp(max=_MOST)
    return functional.pad((mixture * ratio)[..., high:, :], (0, 0, high, 0))
