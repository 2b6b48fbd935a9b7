"""Common part of spectrogram families: samples to spectra and back, at any sample rate."""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfisep_core.audio.stft import STFT, STFTConfig
from sfisep_core.config_values import Range
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.channel_groups import separate_in_groups
from sfisep_core.models.blocks.consistency import share_residual
from sfisep_core.models.contract import FamilyConfig, SeparationModel, rest_of

# If the period of the frame positions is longer, segments start where positions almost repeat.
_LONGEST_PERIOD = 2.0  # seconds


@dataclass(frozen=True)
class SpectrogramConfig(FamilyConfig):
    """Settings that all spectrogram families share; each family adds its own.

    Attributes:
        stft: Short-time Fourier transform whose spectra the network takes.
        rates: "any": windows and hops keep their duration at other rates, so that the network sees
            the frequencies and frame rate of training. "native": other rates are refused.
        beyond: At other rates the transform loses what lies above the band of training and next to
            half the rate. "other" adds it to the residual source ("other", "accompaniment" or
            "instrumental"), or to all sources in equal shares if there is none; "drop" discards it.

    Raises:
        ConfigError: Stems must add up to a mixture of which a part is dropped.
    """

    stft: STFTConfig = field(default_factory=STFTConfig)
    rates: Literal["any", "native"] = "any"
    beyond: Literal["other", "drop"] = "other"
    context_seconds: Annotated[float, Range(0, 600)] = 1

    def __post_init__(self) -> None:
        """Check values, and combinations of them."""
        super().__post_init__()
        if self.gain_rule == "mixture-consistent" and self.beyond == "drop":
            msg = (
                'spectrogram model: gain_rule "mixture-consistent" needs beyond "other", got '
                '"drop", with which stems cannot add up to the mixture'
            )
            raise ConfigError(msg)

    @property
    def values_per_second(self) -> float:
        """Values of the spectrum; see `FamilyConfig.values_per_second`."""
        return self.stft.num_bins * self.native_rate / self.stft.hop


class SpectrogramModel(SeparationModel):
    """A separator whose network works on spectra; families define `network` and `estimate`.

    Args:
        config: Settings.
        channels: Number of channels that the network takes, 1 or 2. With 1 channels are separated
            independently. With 2 they are separated in pairs (0 and 1, 2 and 3, ...); a last
            channel without a partner is passed twice, and the two results are averaged.
        chunk_invariant: Whether segments with this context give the same stems as the whole signal.
        frame_step: Number of frames in one step of the network along time.

    Attributes:
        network: The module that `estimate` runs and that is compiled.

    Raises:
        ConfigError: Sources are not distinct plain words.
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
        self.configure(config, chunk_invariant=chunk_invariant)
        self.stft = STFT(config.stft, config.native_rate)
        self._channels = channels
        self._frame_step = frame_step

    @abstractmethod
    def estimate(self, spectra: Tensor) -> Tensor:
        """Estimate the sources' spectra; may run under autocast, which lacks complex numbers.

        Args:
            spectra: Of mixtures, complex, shape (batch, channel, bins, frames), with as many
                channels as the network takes. Bins above half the sampling frequency are 0.

        Returns:
            Spectra, complex64 or complex128, shape (batch, source, channel, bins, frames). If the
            last source is left out, it is computed as the residual of the others.
        """

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture; see `SeparationModel.forward`."""
        if self.config.rates == "native":
            self.require_native_rate(sample_rate)
        hop = self.stft.hop(sample_rate)
        batch, channels, length = mixture.shape
        if mixture.numel() == 0:
            return mixture.new_zeros(batch, len(self.sources), channels, length)
        covered = math.ceil(self.hops_to_cover(length, sample_rate) * hop)
        padded = functional.pad(mixture, (0, covered - length))
        spectra = self.stft.analyze(padded, sample_rate=sample_rate)
        bins = self.bins_to_estimate(sample_rate)
        estimates = separate_in_groups(spectra[:, :, :bins], self.estimate, channels=self._channels)
        if bins < self.config.stft.num_bins:
            estimates = functional.pad(estimates, (0, 0, 0, self.config.stft.num_bins - bins))
        stems = self.stft.synthesize(estimates, sample_rate=sample_rate, length=covered)
        stems = stems[..., :length]
        if stems.shape[1] < len(self.sources):
            return torch.cat([stems, (mixture - stems.sum(dim=1)).unsqueeze(1)], dim=1)
        lost = None
        if self.config.beyond == "other" and self.loses_band(sample_rate):
            kept = self.stft.synthesize(spectra, sample_rate=sample_rate, length=covered)
            lost = mixture - kept[..., :length]
        if self.gain_rule == "mixture-consistent":
            known = mixture if lost is None else mixture - lost
            stems = share_residual(stems, known, sample_rate=sample_rate)
        return stems if lost is None else stems + self._share_beyond(lost)

    def hops_to_cover(self, length: int, sample_rate: int) -> int:
        """Count the hops of a signal with the zeros that are put behind it for the transform.

        They go up to the next frame: the last samples of a window hardly show in its spectrum.
        """
        return math.ceil(length / self.stft.hop(sample_rate))

    def loses_band(self, sample_rate: int) -> bool:
        """Tell whether the transform loses a band at a rate, which `beyond` is about."""
        return sample_rate != self.native_rate

    def bins_to_estimate(self, sample_rate: int) -> int:
        """Return the number of bins, from 0 Hz on, that are passed to `estimate` at a rate."""
        del sample_rate
        return self.config.stft.num_bins

    def chunk_alignment(self, sample_rate: int) -> int:
        """Compute the period in samples of the positions of frames and of the network's steps.

        If it is longer than two seconds (44101 Hz: minutes), return the shorter time after which
        positions come closest to repeating; frames of adjacent segments then differ by a small part
        of a hop.
        """
        step = self._frame_step * self.stft.hop(sample_rate)
        most = max(1, math.floor(_LONGEST_PERIOD * sample_rate / step))
        return step.limit_denominator(most).numerator

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile the network in place: frame rate and bins do not depend on the sample rate."""
        self.network.compile(dynamic=dynamic)

    def _share_beyond(self, lost: Tensor) -> Tensor:
        """Distribute lost samples, (batch, channel, time), to (batch, source, channel, time)."""
        rest, count = rest_of(self.sources), len(self.sources)
        named = [1.0 / count if rest is None else float(name == rest) for name in self.sources]
        shares = torch.tensor(named)
        return shares.to(lost)[:, None, None] * lost.unsqueeze(1)
