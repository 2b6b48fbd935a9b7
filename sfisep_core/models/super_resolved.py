"""Separate at a low sampling frequency, and restore the full band from the mixture's own."""

import copy
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from sfisep_core.audio.resample import resample, sinc_fits, sinc_resample
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.consistency import share_residual
from sfisep_core.models.blocks.restorer import Restorer, RestorerConfig
from sfisep_core.models.contract import SegmentRule, SeparationModel

# In a share of the energy: what keeps gains of silent stems finite.
_RIDGE = 1e-8
# The restorer needs more memory a second than separators do.
_LONGEST_SEGMENT = 10


@dataclass(frozen=True)
class SeparatorConfig:
    """A separator by family and settings."""

    family: str = "sfi-conv-tasnet"
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SuperResolvedConfig:
    """Settings of a super-resolved separator.

    Attributes:
        separator: What separates at the low rate; its weights come from a trained one.
        low_rate: Hz, at which it separates.
        native_rate: Hz, at which the restorer was trained.
        restorer: Of what is above.

    Raises:
        ConfigError: The low rate is not above 0 and below the native one.
    """

    separator: SeparatorConfig = field(default_factory=SeparatorConfig)
    low_rate: int = 8000
    native_rate: int = 32000
    restorer: RestorerConfig = field(default_factory=RestorerConfig)

    def __post_init__(self) -> None:
        """Check the rates."""
        if not 0 < self.low_rate < self.native_rate:
            msg = (
                f"super-resolved model: expected a low_rate of 1 to {self.native_rate - 1} Hz, "
                f"below native_rate, got {self.low_rate}"
            )
            raise ConfigError(msg)


class SuperResolvedSeparator(SeparationModel):
    """Super-resolution over any separator, which works at a low rate and is not trained further.

    At every rate the mixture is resampled to the low one, separated there, and resampled back; what
    it then lacks of the mixture is shared out by a `Restorer`, so that stems add up to the mixture.
    Each channel is separated on its own.

    Args:
        config: Settings.
        separator: The separator that the settings describe; None makes one with fresh weights.
        restorer: The same of the restorer.

    Raises:
        ConfigError: The separator cannot be made so, has one source, or is one of these itself.
    """

    family = "super-resolved"

    def __init__(
        self,
        config: SuperResolvedConfig,
        *,
        separator: SeparationModel | None = None,
        restorer: Restorer | None = None,
    ) -> None:
        # Here, because the registry knows this family, too.
        from sfisep_core.models.registry import build_model

        super().__init__()
        if config.separator.family == self.family:
            msg = "super-resolved model: expected a separator that is not super-resolved itself"
            raise ConfigError(msg)
        self.config = config
        inner = separator or build_model(config.separator.family, config.separator.config)
        self.separator: SeparationModel = inner
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
            seconds=min(inner.segments.seconds or _LONGEST_SEGMENT, _LONGEST_SEGMENT),
            context_seconds=inner.segments.context_seconds,
            chunk_invariant=False,
        )
        self.restorer = restorer or Restorer(config.restorer, num_sources=len(self.sources))

    @classmethod
    def around(
        cls, separator: SeparationModel, *, low_rate: int, restorer: Restorer | None
    ) -> Self:
        """Put a trained separator and a trained restorer together, without copying either.

        Args:
            separator: In evaluation mode. Its settings are not taken down: the result is for use,
                not for a file.
            low_rate: Hz, at which it is to separate.
            restorer: For the separator's sources; None shares out without a network.
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
        """Give a copy whose separator is one for inference; the weights are shared."""
        model = copy.copy(self)
        model._modules = dict(self._modules)  # the copy's own table
        model.separator = self.separator.for_inference(compiled=compiled)
        return model

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile the separator's network in place."""
        self.separator.compile_network(dynamic=dynamic)


def _change_rate(signals: Tensor, orig_rate: int, target_rate: int) -> Tensor:
    """Resample with the windowed sinc, or with soxr where its filters would fill the memory."""
    if sinc_fits(orig_rate=orig_rate, target_rate=target_rate):
        return sinc_resample(signals, orig_rate=orig_rate, target_rate=target_rate)
    flat = signals.detach().flatten(0, -2).float().cpu().numpy()
    resampled = torch.from_numpy(resample(flat, orig_rate=orig_rate, target_rate=target_rate))
    return resampled.view(*signals.shape[:-1], -1).to(signals)


def _fit_gains(stems: Tensor, mixture: Tensor) -> Tensor:
    """Fit one gain a stem and channel so that they add up to the mixture as well as they can.

    Args:
        stems: Shape (batch, source, channel, time).
        mixture: Shape (batch, channel, time).

    Returns:
        Shape (batch, source, channel, 1).
    """
    signals = stems.transpose(1, 2).double()  # (B, C, S, T)
    scale = signals.square().sum(dim=-1, keepdim=True).sqrt()
    signals = signals / torch.where(scale > 0, scale, 1.0)
    gram = signals @ signals.mT
    gram = gram + _RIDGE * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    gains: Tensor = torch.linalg.solve(gram, signals @ mixture.double().unsqueeze(-1))
    gains = gains / torch.where(scale > 0, scale, 1.0)
    return gains.transpose(1, 2).to(stems.dtype)
