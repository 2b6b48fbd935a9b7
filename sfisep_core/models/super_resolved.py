"""Separate at a low sampling frequency, and restore the full band from the mixture."""

import copy
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from sfisep_core.audio.resample import resample, sinc_fits, sinc_resample
from sfisep_core.config_values import CheckedConfig, SampleRate
from sfisep_core.errors import ConfigError
from sfisep_core.foundation.float64 import to_float64
from sfisep_core.models.blocks.consistency import share_residual
from sfisep_core.models.blocks.restorer import Restorer, RestorerConfig
from sfisep_core.models.contract import BuildModel, SegmentRule, SeparationModel, SourcesOf

_FAMILY = "super-resolved"
# Ridge regularisation relative to the energy: it keeps gains of silent stems finite.
_RIDGE = 1e-8
# In seconds: the restorer needs more memory per second than separators.
_LONGEST_SEGMENT = 10


@dataclass(frozen=True)
class SeparatorConfig:
    """A separator by family and settings.

    Attributes:
        family: Name of the family.
        config: Its settings by name; those left out have the family's defaults.
    """

    family: str = "sfi-conv-tasnet"
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SuperResolvedConfig(CheckedConfig):
    """Settings of a super-resolved separator.

    Attributes:
        separator: The separator that works at the low rate; its weights come from a trained model.
        low_rate: Hz, the rate at which it separates.
        native_rate: Hz, the rate at which the restorer was trained, above `low_rate`.
        restorer: Restorer of the band above half of `low_rate`.

    Raises:
        ConfigError: The low rate is not above 0 and below the native one, or the separator is
            super-resolved itself.
    """

    section = "model setting "

    separator: SeparatorConfig = field(default_factory=SeparatorConfig)
    low_rate: SampleRate = 8000
    native_rate: SampleRate = 32000
    restorer: RestorerConfig = field(default_factory=RestorerConfig)

    def __post_init__(self) -> None:
        """Check the rates and the separator."""
        super().__post_init__()
        if self.separator.family == _FAMILY:
            msg = "super-resolved model: expected a separator that is not super-resolved itself"
            raise ConfigError(msg)
        if self.low_rate >= self.native_rate:
            msg = (
                f"super-resolved model: expected a low_rate of 1 to {self.native_rate - 1} Hz, "
                f"below native_rate, got {self.low_rate}"
            )
            raise ConfigError(msg)


class SuperResolvedSeparator(SeparationModel):
    """Super-resolution for any separator, which works at a low rate and is not trained further.

    The mixture is resampled to the low rate, separated there, and resampled back. A `Restorer` then
    distributes what the stems lack of the mixture, so that they add up to it. Channels are
    separated independently.

    Args:
        config: Settings.
        separator: The separator that the settings describe.
        restorer: The restorer that they describe; None builds one with initial weights.

    Raises:
        ConfigError: The separator has one source.
    """

    family = _FAMILY
    trained_on_top = True

    def __init__(
        self,
        config: SuperResolvedConfig,
        *,
        separator: SeparationModel,
        restorer: Restorer | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.separator: SeparationModel = separator
        self.separator.requires_grad_(requires_grad=False).eval()
        self.sources = self.separator.sources
        if len(self.sources) < 2:
            msg = (
                "super-resolved model: expected a separator of two sources or more, which share "
                f"the mixture out, got one of {self.sources[0]} alone"
            )
            raise ConfigError(msg)
        self.above_rate = config.low_rate
        self.native_rate = config.native_rate
        self.gain_rule = "mixture-consistent"
        self.normalizes_level = self.separator.normalizes_level
        self.segments = SegmentRule(
            seconds=min(separator.segments.seconds or _LONGEST_SEGMENT, _LONGEST_SEGMENT),
            context_seconds=separator.segments.context_seconds,
            chunk_invariant=False,
        )
        self.restorer = restorer or Restorer(config.restorer, num_sources=len(self.sources))

    @classmethod
    def from_config(cls, config: SuperResolvedConfig, build: BuildModel) -> Self:
        """Build a model and its separator with initial weights; see `SeparationModel`."""
        return cls(config, separator=build(config.separator.family, config.separator.config))

    @classmethod
    def sources_of(cls, config: SuperResolvedConfig, sources_of: SourcesOf) -> tuple[str, ...]:
        """Read the sources of the contained separator; see `SeparationModel`."""
        return sources_of(config.separator.family, config.separator.config)

    @classmethod
    def settings_on(cls, model: SeparationModel) -> dict[str, Any]:
        """Return the settings with the separator of a model; see `SeparationModel`."""
        separator = parts_of(model).separator
        return {"separator": {"family": separator.family, "config": separator.config_dict()}}

    @property
    def base(self) -> SeparationModel:
        """The contained separator."""
        return self.separator

    @classmethod
    def around(
        cls, separator: SeparationModel, *, low_rate: int, restorer: Restorer | None
    ) -> Self:
        """Combine a trained separator and a trained restorer, without copying either.

        Args:
            separator: In evaluation mode. Its settings are not stored: the result cannot be saved.
            low_rate: Hz, the rate at which it separates.
            restorer: For the separator's sources; None distributes without a network.
        """
        config = SuperResolvedConfig(
            separator=SeparatorConfig(separator.family),
            low_rate=low_rate,
            native_rate=max(separator.native_rate, low_rate + 1),
            restorer=RestorerConfig(network=False) if restorer is None else restorer.config,
        )
        return cls(config, separator=separator, restorer=restorer).eval()

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture; see `SeparationModel.forward`."""
        batch, channels, length = mixture.shape
        if mixture.numel() == 0:
            return mixture.new_zeros(batch, len(self.sources), channels, length)
        signals = mixture.reshape(batch * channels, 1, length)
        low_rate = self.config.low_rate
        with torch.autocast(mixture.device.type, enabled=False):
            low = _change_rate(signals, sample_rate, low_rate)
        stems: Tensor = self.separator(low, sample_rate=low_rate)
        with torch.autocast(mixture.device.type, enabled=False):
            if self.separator.gain_rule == "least-squares":
                stems = _fit_gains(stems, low) * stems
            stems = share_residual(stems, low, sample_rate=low_rate)
            stems = _change_rate(stems, low_rate, sample_rate)[..., :length]
            if sample_rate <= low_rate:
                stems = share_residual(stems, signals, sample_rate=sample_rate)
        stems = stems[:, :, 0]  # (B C, S, T)
        if sample_rate > low_rate:
            added: Tensor = self.restorer(
                stems, signals[:, 0], sample_rate=sample_rate, low_rate=low_rate
            )
            stems = stems + added
        return stems.view(batch, channels, -1, length).transpose(1, 2)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the restorer; the separator stays in evaluation mode."""
        super().train(mode)
        self.separator.eval()
        return self

    def for_inference(self, *, compiled: bool = False) -> SeparationModel:
        """Return a copy whose separator is optimised for inference; the weights are shared."""
        model = copy.copy(self)
        model._modules = dict(self._modules)  # a dictionary of the copy's own
        model.separator = self.separator.for_inference(compiled=compiled)
        return model

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile the separator's network in place."""
        self.separator.compile_network(dynamic=dynamic)


@dataclass(frozen=True)
class Parts:
    """The parts of a model that super-resolution uses.

    Attributes:
        separator: The contained separator of a super-resolved model, else the model itself.
        low_rate: Hz, the rate at which a super-resolved model separates; 0 for other models.
        restorer: The restorer of a super-resolved model; None for other models.
    """

    separator: SeparationModel
    low_rate: int = 0
    restorer: Restorer | None = None


def parts_of(model: SeparationModel) -> Parts:
    """Return the separator and the restorer of a model, without copying either."""
    if isinstance(model, SuperResolvedSeparator):
        return Parts(model.separator, model.config.low_rate, model.restorer)
    return Parts(model)


def _change_rate(signals: Tensor, orig_rate: int, target_rate: int) -> Tensor:
    """Resample with the windowed sinc, or with soxr where the sinc filters need too much memory."""
    if sinc_fits(orig_rate=orig_rate, target_rate=target_rate):
        return sinc_resample(signals, orig_rate=orig_rate, target_rate=target_rate)
    flat = signals.detach().flatten(0, -2).float().cpu().numpy()
    resampled = torch.from_numpy(resample(flat, orig_rate=orig_rate, target_rate=target_rate))
    return resampled.view(*signals.shape[:-1], -1).to(signals)


def _fit_gains(stems: Tensor, mixture: Tensor) -> Tensor:
    """Fit one gain per stem and channel so that stems add up to the mixture in least squares.

    Args:
        stems: Shape (batch, source, channel, time).
        mixture: Shape (batch, channel, time).

    Returns:
        Gains, shape (batch, source, channel, 1).
    """
    signals = to_float64(stems.transpose(1, 2))  # (B, C, S, T)
    scale = signals.square().sum(dim=-1, keepdim=True).sqrt()
    signals = signals / torch.where(scale > 0, scale, 1.0)
    gram = signals @ signals.mT
    gram = gram + _RIDGE * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    gains: Tensor = torch.linalg.solve(gram, signals @ to_float64(mixture).unsqueeze(-1))
    gains = gains / torch.where(scale > 0, scale, 1.0)
    return gains.transpose(1, 2).to(stems.dtype).to(stems.device)
