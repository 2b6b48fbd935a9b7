"""An ensemble: the weighted mean of what several models estimate."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import torch
from torch import Tensor

from sfisep_core.config_values import CheckedConfig, Range, SampleRate
from sfisep_core.errors import ConfigError
from sfisep_core.models.composite import CompositeModel, with_residual
from sfisep_core.models.contract import BuildModel, Member, SeparationModel, rest_of
from sfisep_core.models.sources import DEFAULT_SOURCES, check_sources

_MOST_MEMBERS = 8


@dataclass(frozen=True)
class MemberConfig(CheckedConfig):
    """One model of an ensemble, by family and settings.

    Attributes:
        family: Name of the family.
        config: Its settings by name; those left out have the family's defaults.
        weight: Its share of the mean, relative to those of the others.

    Raises:
        ConfigError: The weight is out of range.
    """

    section = "model setting members."

    family: str = "sfi-conv-tasnet"
    config: dict[str, Any] = field(default_factory=dict)
    weight: Annotated[float, Range(0.001, 1000)] = 1.0


def _default_members() -> tuple[MemberConfig, ...]:
    masks = {"sources": list(DEFAULT_SOURCES), "masks": "joint"}
    return MemberConfig(), MemberConfig("spleeter", masks)


@dataclass(frozen=True)
class EnsembleConfig(CheckedConfig):
    """Settings of an ensemble.

    Attributes:
        sources: Names in the order of the source axis. Every model has all of them.
        native_rate: Hz, a rate at which all models work.
        members: The models.

    Raises:
        ConfigError: There are too few or too many models.
    """

    section = "model setting "

    sources: tuple[str, ...] = DEFAULT_SOURCES
    native_rate: SampleRate = 44100
    members: tuple[MemberConfig, ...] = field(default_factory=_default_members)

    def __post_init__(self) -> None:
        """Check values."""
        super().__post_init__()
        check_sources(self.sources)
        if not 2 <= len(self.members) <= _MOST_MEMBERS:
            msg = f"ensemble: expected 2 to {_MOST_MEMBERS} models, got {len(self.members)}"
            raise ConfigError(msg)


class Ensemble(CompositeModel):
    """An ensemble: all models separate the mixture, and each stem is the mean of theirs.

    What a model estimates of other sources is added to its estimate of the residual source
    (`contract.rest_of`). So the stems of each model add up to the mixture, and their mean does.

    Args:
        config: Settings.
        members: The models that the settings describe.

    Raises:
        ConfigError: A model does not have all sources, or it has others and the ensemble has no
            residual source.
    """

    family = "ensemble"
    modules_name = "members"
    config: EnsembleConfig

    def __init__(self, config: EnsembleConfig, members: Sequence[SeparationModel]) -> None:
        context = max(member.segments.context_seconds for member in members)
        super().__init__(config, members, context_seconds=context)
        for number, member in enumerate(members, 1):
            missing = [name for name in config.sources if name not in member.sources]
            if missing:
                msg = (
                    f"ensemble: expected {', '.join(config.sources)} of each model; model {number},"
                    f" {member.family}, has {', '.join(member.sources)}"
                )
                raise ConfigError(msg)
            others = [name for name in member.sources if name not in config.sources]
            if others and rest_of(config.sources) is None:
                msg = (
                    f"ensemble of {', '.join(config.sources)}: expected models of these stems, or "
                    "a stem for the rest that all have: there is no place for "
                    f"{', '.join(others)} of model {number}, {member.family}"
                )
                raise ConfigError(msg)

    @classmethod
    def from_config(cls, config: EnsembleConfig, build: BuildModel) -> Self:
        """Build all models with initial weights; see `SeparationModel`."""
        return cls(config, [build(member.family, member.config) for member in config.members])

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture; see `SeparationModel.forward`."""
        mean = mixture.new_zeros(())
        for member in self.in_members():
            estimates = self.run(member.model, mixture, sample_rate)
            stems = torch.stack(
                [estimates[:, member.model.sources.index(name)] for name in self.sources], dim=1
            )
            stems = with_residual(
                stems, mixture - stems.sum(dim=1), self.sources, sample_rate=sample_rate
            )
            mean = mean + stems * member.share
        return mean

    def in_members(self) -> list[Member]:
        """Return the models with their shares; see `SeparationModel`."""
        total = sum(member.weight for member in self.config.members)
        return [
            Member(model, settings.weight / total)
            for model, settings in zip(self.models, self.config.members, strict=True)
        ]
