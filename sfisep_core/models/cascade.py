"""A cascade: models in sequence, each of which separates the residual of the previous ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from sfisep_core.config_values import CheckedConfig, SampleRate
from sfisep_core.errors import ConfigError
from sfisep_core.models.composite import CompositeModel, with_residual
from sfisep_core.models.contract import BuildModel, SeparationModel, Stage
from sfisep_core.models.sources import DEFAULT_SOURCES, check_sources

_MOST_STAGES = 8


@dataclass(frozen=True)
class StageConfig:
    """One model of a cascade, by family and settings.

    Attributes:
        family: Name of the family.
        config: Its settings by name; those left out have the family's defaults.
        keep: The sources whose estimates become stems of the cascade.
    """

    family: str = "sfi-conv-tasnet"
    config: dict[str, Any] = field(default_factory=dict)
    keep: tuple[str, ...] = DEFAULT_SOURCES


def _default_stages() -> tuple[StageConfig, ...]:
    voice = {"sources": ["vocals", "accompaniment"], "masks": "complement"}
    return (
        StageConfig("spleeter", voice, ("vocals",)),
        StageConfig("sfi-conv-tasnet", {}, DEFAULT_SOURCES[1:]),
    )


@dataclass(frozen=True)
class CascadeConfig(CheckedConfig):
    """Settings of a cascade; by default a network for vocals, then one for all other stems.

    Attributes:
        sources: Names in the order of the source axis: the sources that the stages keep.
        native_rate: Hz, a rate at which all stages work.
        stages: The models, in the order in which they run; each separates what the stages before it
            leave of the mixture.

    Raises:
        ConfigError: The sources are not those that the stages keep, or there are too many stages.
    """

    section = "model setting "

    sources: tuple[str, ...] = DEFAULT_SOURCES
    native_rate: SampleRate = 44100
    stages: tuple[StageConfig, ...] = field(default_factory=_default_stages)

    def __post_init__(self) -> None:
        """Check values, and that sources and stages agree."""
        super().__post_init__()
        check_sources(self.sources)
        if not 2 <= len(self.stages) <= _MOST_STAGES:
            msg = f"cascade: expected 2 to {_MOST_STAGES} stages, got {len(self.stages)}"
            raise ConfigError(msg)
        kept = [name for stage in self.stages for name in stage.keep]
        if sorted(kept) != sorted(self.sources) or not all(stage.keep for stage in self.stages):
            shown = "; ".join(", ".join(stage.keep) or "none" for stage in self.stages)
            msg = (
                "cascade: expected every stage to keep sources, and each of "
                f"{', '.join(self.sources)} to be kept by one stage, got {shown}"
            )
            raise ConfigError(msg)


class Cascade(CompositeModel):
    """A cascade: the first model separates the mixture, each later one the residual before it.

    The residual is the mixture minus the stems kept so far. What no stage keeps is added to the
    residual source of the last stage (`contract.rest_of`) or, if it has none, distributed over all
    sources that the last stage keeps, so that stems add up to the mixture. Only the last stage is
    trained.

    Args:
        config: Settings.
        stages: The models that the settings describe.

    Raises:
        ConfigError: A stage is to keep a source that it does not have.
    """

    family = "cascade"
    modules_name = "stages"
    config: CascadeConfig

    def __init__(self, config: CascadeConfig, stages: Sequence[SeparationModel]) -> None:
        context = sum(stage.segments.context_seconds for stage in stages)
        super().__init__(config, stages, context_seconds=context)
        for number, (stage, settings) in enumerate(zip(stages, config.stages, strict=True), 1):
            missing = [name for name in settings.keep if name not in stage.sources]
            if missing:
                msg = (
                    f"cascade: stage {number} is to keep {missing[0]}: it is a {stage.family} "
                    f"model of {', '.join(stage.sources)}"
                )
                raise ConfigError(msg)
        for stage in stages[:-1]:
            stage.requires_grad_(requires_grad=False).eval()

    @classmethod
    def from_config(cls, config: CascadeConfig, build: BuildModel) -> Self:
        """Build all stages with initial weights; see `SeparationModel`."""
        return cls(config, [build(stage.family, stage.config) for stage in config.stages])

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture; see `SeparationModel.forward`."""
        left = mixture
        stems: dict[str, Tensor] = {}
        for stage, settings in zip(self.models, self.config.stages, strict=True):
            estimates = self.run(stage, left, sample_rate)
            kept = {name: estimates[:, stage.sources.index(name)] for name in settings.keep}
            left = left - torch.stack(list(kept.values())).sum(dim=0)
            stems |= kept
        last = self.config.stages[-1].keep
        some = torch.stack([stems[name] for name in last], dim=1)
        some = with_residual(some, left, last, sample_rate=sample_rate)
        stems |= dict(zip(last, some.unbind(dim=1), strict=True))
        return torch.stack([stems[name] for name in self.sources], dim=1)

    def in_stages(self) -> list[Stage]:
        """Return the stages with the sources that they keep; see `SeparationModel`."""
        return [
            Stage(model, settings.keep)
            for model, settings in zip(self.models, self.config.stages, strict=True)
        ]
