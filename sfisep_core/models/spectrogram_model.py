"""What all spectrogram families share: samples to spectra and back, at any sampling frequency."""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.audio.stft import STFT, STFTConfig
from sfisep_core.config_values import CheckedConfig, Range, SampleRate
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.consistency import share_residual
from sfisep_core.models.contract import (
    GainRule,
    SegmentRule,
    SeparationModel,
    rest_of,
)
from sfisep_core.models.sources import DEFAULT_SOURCES, check_sources

# Where frame positions repeat after longer than this, segments start where they almost do.
_LONGEST_PERIOD = 2.0  # seconds


@dataclass(frozen=True)
class SpectrogramConfig(CheckedConfig):
    """Settings of every spectrogram family, which adds its own.

    Attributes:
        sources: Names in the order of the source axis.
        native_rate: Hz, rate of training; `stft` is counted at it.
        stft: The transform.
        rates: "any": windows and hops keep their seconds at other rates, so that the network sees
            the frequencies and frames that it knows. "native": other rates are refused.
        beyond: Where at other rates goes what the transform loses, which is all above the band of
            training and what lies next to half the rate: "other": to the source of this name or
            of another for the rest (`contract.rest_of`), or to all in equal shares. "drop":
            nowhere.
        gain_rule: See `SeparationModel`; "mixture-consistent" shares out what stems lack.
        normalizes_level: See `SeparationModel`.
        segment_seconds: Of long signals.
        context_seconds: On either side of a segment.

    Raises:
        ConfigError: Stems are to add up to a mixture of which a part is dropped.
    """

    section = "model setting "

    sources: tuple[str, ...] = DEFAULT_SOURCES
    native_rate: SampleRate = 44100
    stft: STFTConfig = field(default_factory=STFTConfig)
    rates: Literal["any", "native"] = "any"
    beyond: Literal["other", "drop"] = "other"
    gain_rule: GainRule = "least-squares"
    normalizes_level: bool = False
    segment_seconds: Annotated[int, Range(0, 3600)] = 20
    context_seconds: Annotated[float, Range(0, 600)] = 1

    def __post_init__(self) -> None:
        """Check values, and those that do not go together."""
        super().__post_init__()
        if self.gain_rule == "mixture-consistent" and self.beyond == "drop":
            msg = (
                'spectrogram model: gain_rule "mixture-consistent" needs beyond "other", got '
                '"drop", with which stems cannot add up to the mixture'
            )
            raise ConfigError(msg)


class SpectrogramModel(SeparationModel):
    """A separator whose network works on spectra; families give `network` and `estimate`.

    Args:
        config: Settings.
        channels: How many channels the network takes, 1 or 2. With 1 every channel is separated
            alone. With 2 channels 0 and 1 are, 2 and 3, and so on; a last one that is left is
            given twice, and the two results averaged.
        chunk_invariant: Whether segments, given the context, agree with the whole signal.
        frame_step: Frames of which the network's own steps in time are multiples.

    Attributes:
        network: What `estimate` runs, and what is compiled.

    Raises:
        ConfigError: Sources are no different plain words.
    """

    config: SpectrogramConfig
    network: nn.Module

    def __init__(
        self,
        config: SpectrogramConfig,
        *,
        channels: Literal[1, 2],
        chunk_invariant: bool,
        frame_step: int = 1,
    ) -> None:
        super().__init__()
        check_sources(config.sources)
        self.config = config
        self.sources = config.sources
        self.native_rate = config.native_rate
        self.gain_rule = config.gain_rule
        self.normalizes_level = config.normalizes_level
        self.segments = SegmentRule(
            seconds=config.segment_seconds,
            context_seconds=config.context_seconds,
            chunk_invariant=chunk_invariant,
        )
        self.stft = STFT(config.stft, config.native_rate)
        self._channels = channels
        self._frame_step = frame_step

    @abstractmethod
    def estimate(self, spectra: Tensor) -> Tensor:
        """Estimate the sources' spectra; may run under autocast, which knows no complex numbers.

        Args:
            spectra: Of mixtures, complex, shape (batch, channel, bins, frames), with as many
                channels as the network takes. Bins above half the sampling frequency are 0.

        Returns:
            Spectra, complex of 32-bit numbers at least, shape (batch, source, channel, bins,
            frames). Where those of the last source are left out, it is what the others leave of
            the mixture.
        """

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture; see `SeparationModel.forward`."""
        if self.config.rates == "native":
            self.require_native_rate(sample_rate)
        hop = self.stft.hop(sample_rate)
        batch, channels, length = mixture.shape
        if mixture.numel() == 0:
            return mixture.new_zeros(batch, len(self.sources), channels, length)
        # Up to the next frame: the last samples of a window hardly show in its spectrum.
        covered = math.ceil(math.ceil(length / hop) * hop)
        padded = functional.pad(mixture, (0, covered - length))
        spectra = self.stft.analyze(padded, sample_rate=sample_rate)
        bins = self.bins_to_estimate(sample_rate)
        estimates = self._estimate_channels(spectra[:, :, :bins])
        if bins < self.config.stft.num_bins:
            estimates = functional.pad(estimates, (0, 0, 0, self.config.stft.num_bins - bins))
        stems = self.stft.synthesize(estimates, sample_rate=sample_rate, length=covered)
        stems = stems[..., :length]
        if stems.shape[1] < len(self.sources):
            return torch.cat([stems, (mixture - stems.sum(dim=1)).unsqueeze(1)], dim=1)
        lost = None
        if self.config.beyond == "other" and sample_rate != self.native_rate:
            kept = self.stft.synthesize(spectra, sample_rate=sample_rate, length=covered)
            lost = mixture - kept[..., :length]
        if self.gain_rule == "mixture-consistent":
            known = mixture if lost is None else mixture - lost
            stems = share_residual(stems, known, sample_rate=sample_rate)
        return stems if lost is None else stems + self._share_beyond(lost)

    def bins_to_estimate(self, sample_rate: int) -> int:
        """Give the number of bins, from 0 Hz on, that `estimate` is given at a rate."""
        del sample_rate
        return self.config.stft.num_bins

    def chunk_alignment(self, sample_rate: int) -> int:
        """Give the samples after which frames, and steps of the network, lie as before.

        Where that takes longer than two seconds (44101 Hz: minutes), it is the time below in which
        they come closest: frames of neighbouring segments then differ by a small part of a hop.
        """
        step = self._frame_step * self.stft.hop(sample_rate)
        most = max(1, math.floor(_LONGEST_PERIOD * sample_rate / step))
        return step.limit_denominator(most).numerator

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile the network in place: it sees the same frames and bins whatever the rate."""
        self.network.compile(dynamic=dynamic)

    def _estimate_channels(self, spectra: Tensor) -> Tensor:
        """Estimate from (batch, channel, bins, frames), any number of channels."""
        batch, channels, *size = spectra.shape
        lone = self._channels == 2 and channels % 2 == 1
        if lone:
            spectra = torch.cat([spectra, spectra[:, -1:]], dim=1)
        estimates = self.estimate(spectra.reshape(-1, self._channels, *size))
        estimates = estimates.reshape(batch, -1, estimates.shape[1], self._channels, *size)
        estimates = estimates.transpose(1, 2).flatten(2, 3)  # (batch, source, channel, ...)
        if lone:
            last = estimates[:, :, -2:].mean(dim=2, keepdim=True)
            estimates = torch.cat([estimates[:, :, :-2], last], dim=2)
        return estimates

    def _share_beyond(self, lost: Tensor) -> Tensor:
        """Share (batch, channel, time) that no network saw; give (batch, source, channel, time)."""
        rest, count = rest_of(self.sources), len(self.sources)
        named = [1.0 / count if rest is None else float(name == rest) for name in self.sources]
        shares = torch.tensor(named)
        return shares.to(lost)[:, None, None] * lost.unsqueeze(1)
