"""A cascade: models in sequence, each of which separates the residual of the previous ones."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from sfisep_core.config_values import CheckedConfig, SampleRate
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.consistency import share_residual
from sfisep_core.models.contract import (
    BuildModel,
    SegmentRule,
    SeparationModel,
    Stage,
    rest_of,
)
from sfisep_core.models.sources import DEFAULT_SOURCES, check_sources

_MOST_STAGES = 8
# Windows start where the frames of all stages start, unless such places are further apart than
# this. It is a little more than the longest period of one stage, Spleeter's patches.
_LONGEST_PERIOD = 12.0  # seconds


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


class Cascade(SeparationModel):
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
    config: CascadeConfig

    def __init__(self, config: CascadeConfig, stages: Sequence[SeparationModel]) -> None:
        super().__init__()
        self.config = config
        self.sources = config.sources
        self.native_rate = config.native_rate
        self.gain_rule = "mixture-consistent"
        self.normalizes_level = all(stage.normalizes_level for stage in stages)
        for number, (stage, settings) in enumerate(zip(stages, config.stages, strict=True), 1):
            missing = [name for name in settings.keep if name not in stage.sources]
            if missing:
                msg = (
                    f"cascade: stage {number} is to keep {missing[0]}: it is a {stage.family} "
                    f"model of {', '.join(stage.sources)}"
                )
                raise ConfigError(msg)
        self.stages = nn.ModuleList(stages)
        for stage in stages[:-1]:
            stage.requires_grad_(requires_grad=False).eval()
        rules = [stage.segments for stage in stages]
        lengths = [rule.seconds for rule in rules]
        # The level of a residual differs from that of the mixture.
        levels_differ = len({stage.normalizes_level for stage in stages}) > 1
        self.segments = SegmentRule(
            seconds=max(lengths) if all(lengths) else 0,
            context_seconds=sum(rule.context_seconds for rule in rules),
            chunk_invariant=all(rule.chunk_invariant for rule in rules) and not levels_differ,
        )

    @classmethod
    def from_config(cls, config: CascadeConfig, build: BuildModel) -> Self:
        """Build all stages with initial weights; see `SeparationModel`."""
        return cls(config, [build(stage.family, stage.config) for stage in config.stages])

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture; see `SeparationModel.forward`."""
        left = mixture
        stems: dict[str, Tensor] = {}
        for stage, settings in zip(self.models, self.config.stages, strict=True):
            estimates = self._run(stage, left, sample_rate)
            kept = {name: estimates[:, stage.sources.index(name)] for name in settings.keep}
            left = left - torch.stack(list(kept.values())).sum(dim=0)
            stems |= kept
        last = self.config.stages[-1].keep
        rest = rest_of(last)
        if rest is not None:
            stems[rest] = stems[rest] + left
        elif mixture.numel():
            some = torch.stack([stems[name] for name in last], dim=1)
            wanted = left + some.sum(dim=1)
            some = share_residual(some, wanted, sample_rate=sample_rate)
            stems |= dict(zip(last, some.unbind(dim=1), strict=True))
        return torch.stack([stems[name] for name in self.sources], dim=1)

    @property
    def models(self) -> list[SeparationModel]:
        """The stages."""
        return [stage for stage in self.stages if isinstance(stage, SeparationModel)]

    def chunk_alignment(self, sample_rate: int) -> int:
        """Compute the period in samples of the frame positions of all stages.

        Where it is longer than 12 seconds, the longest period of one stage is used; frames of the
        other stages are then displaced by up to half a step.
        """
        steps = [stage.chunk_alignment(sample_rate) for stage in self.models]
        common = math.lcm(*steps)
        return common if common <= _LONGEST_PERIOD * sample_rate else max(steps)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the last stage; the others stay in evaluation mode."""
        super().train(mode)
        for stage in self.models[:-1]:
            stage.eval()
        return self

    def in_stages(self) -> list[Stage]:
        """Return the stages with the sources that they keep; see `SeparationModel`."""
        return [
            Stage(model, settings.keep)
            for model, settings in zip(self.models, self.config.stages, strict=True)
        ]

    def for_inference(self, *, compiled: bool = False) -> SeparationModel:
        """Return a copy whose stages are optimised for inference; the weights may be shared."""
        model = copy.copy(self)
        model._modules = dict(self._modules)  # a dictionary of the copy's own
        model.stages = nn.ModuleList(s.for_inference(compiled=compiled) for s in self.models)
        return model

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile the networks of all stages in place."""
        for stage in self.models:
            stage.compile_network(dynamic=dynamic)

    def _run(self, stage: SeparationModel, mixture: Tensor, sample_rate: int) -> Tensor:
        """Run a stage as if alone: with its own level normalisation and its own gain rule."""
        levels = None
        if stage.normalizes_level and not self.normalizes_level and mixture.numel():
            levels = mixture.std(dim=-1, correction=0, keepdim=True)
            levels = torch.where(levels > 0, levels, 1.0)
            mixture = mixture / levels
        stems = _in_pieces(stage, mixture, sample_rate)
        if stage.gain_rule == "least-squares" and len(stage.sources) > 1:
            stems = share_residual(stems, mixture, sample_rate=sample_rate)
        return stems if levels is None else stems * levels.unsqueeze(1)


def _in_pieces(stage: SeparationModel, mixture: Tensor, sample_rate: int) -> Tensor:
    """Run a stage on segments of its own length, one at a time to save memory.

    A window of a cascade is as long as the longest window of its stages.
    """
    rule, length = stage.segments, mixture.shape[-1]
    alignment = stage.chunk_alignment(sample_rate)
    step, context = (
        math.ceil(seconds * sample_rate / alignment) * alignment
        for seconds in (rule.seconds, rule.context_seconds)
    )
    if not rule.chunk_invariant or step == 0 or length <= step + 2 * context:
        return stage(mixture, sample_rate=sample_rate)  # type: ignore[no-any-return]
    pieces = []
    for start in range(0, length, step):
        begin = max(0, start - context)
        piece = stage(mixture[..., begin : start + step + context], sample_rate=sample_rate)
        pieces.append(piece[..., start - begin : start - begin + step])
    return torch.cat(pieces, dim=-1)
