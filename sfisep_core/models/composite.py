"""Models that are made of other models, each of which runs as if alone."""

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sfisep_core.models.blocks.consistency import share_residual
from sfisep_core.models.contract import SegmentRule, SeparationModel, rest_of

# Windows start where the frames of all models start, unless such places are further apart than
# this. It is a little more than the longest period of one model, Spleeter's patches.
_LONGEST_PERIOD = 12.0  # seconds


class CompositeModel(SeparationModel):
    """A model of several models; its stems are mixture-consistent.

    Attributes:
        modules_name: Name of the attribute that holds the models, hence the prefix of their
            weights.

    Args:
        config: Settings, with the attributes `sources` and `native_rate`.
        models: The models, in the order of the settings.
        context_seconds: Seconds on either side of a segment that the models need together.
    """

    modules_name: ClassVar[str]

    def __init__(
        self, config: Any, models: Sequence[SeparationModel], *, context_seconds: float
    ) -> None:
        super().__init__()
        self.config = config
        self.sources = config.sources
        self.native_rate = config.native_rate
        self.gain_rule = "mixture-consistent"
        self.normalizes_level = all(model.normalizes_level for model in models)
        setattr(self, self.modules_name, nn.ModuleList(models))
        rules = [model.segments for model in models]
        lengths = [rule.seconds for rule in rules]
        # The level that a model normalises is then not that of the whole mixture.
        levels_differ = len({model.normalizes_level for model in models}) > 1
        self.segments = SegmentRule(
            seconds=max(lengths) if all(lengths) else 0,
            context_seconds=context_seconds,
            chunk_invariant=all(rule.chunk_invariant for rule in rules) and not levels_differ,
        )

    @property
    def models(self) -> list[SeparationModel]:
        """The models."""
        modules = getattr(self, self.modules_name)
        return [model for model in modules if isinstance(model, SeparationModel)]

    def chunk_alignment(self, sample_rate: int) -> int:
        """Compute the period in samples of the frame positions of all models.

        Where it is longer than 12 seconds, the longest period of one model is used; frames of the
        other models are then displaced by up to half a step.
        """
        steps = [model.chunk_alignment(sample_rate) for model in self.models]
        common = math.lcm(*steps)
        return common if common <= _LONGEST_PERIOD * sample_rate else max(steps)

    def for_inference(self, *, compiled: bool = False) -> SeparationModel:
        """Return a copy whose models are optimised for inference; the weights may be shared."""
        model = copy.copy(self)
        optimised = nn.ModuleList(one.for_inference(compiled=compiled) for one in self.models)
        model._modules = {**self._modules, self.modules_name: optimised}
        return model

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile the networks of all models in place."""
        for model in self.models:
            model.compile_network(dynamic=dynamic)

    def run(self, model: SeparationModel, mixture: Tensor, sample_rate: int) -> Tensor:
        """Run a model as if alone: with its own level normalisation and its own gain rule."""
        levels = None
        if model.normalizes_level and not self.normalizes_level and mixture.numel():
            levels = mixture.std(dim=-1, correction=0, keepdim=True)
            levels = torch.where(levels > 0, levels, 1.0)
            mixture = mixture / levels
        stems = _in_pieces(model, mixture, sample_rate)
        if model.gain_rule == "least-squares" and len(model.sources) > 1:
            stems = share_residual(stems, mixture, sample_rate=sample_rate)
        return stems if levels is None else stems * levels.unsqueeze(1)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; models without weights to train stay in evaluation mode."""
        super().train(mode)
        for model in self.models:
            if not any(weight.requires_grad for weight in model.parameters()):
                model.eval()
        return self


def with_residual(
    stems: Tensor, residual: Tensor, sources: Sequence[str], *, sample_rate: int
) -> Tensor:
    """Give some stems what is left of a mixture, so that they add up to it.

    Args:
        stems: Shape (batch, source, channel, time).
        residual: The mixture without these stems, shape (batch, channel, time).
        sources: Names of the stems. The residual is added to the source for it (`rest_of`) or, if
            there is none, distributed over all of them.
        sample_rate: Hz.

    Returns:
        Stems, shape (batch, source, channel, time).
    """
    rest = rest_of(sources)
    if rest is None:
        if not residual.numel():
            return stems
        return share_residual(stems, residual + stems.sum(dim=1), sample_rate=sample_rate)
    parts = list(stems.unbind(dim=1))
    parts[list(sources).index(rest)] = parts[list(sources).index(rest)] + residual
    return torch.stack(parts, dim=1)


def _in_pieces(model: SeparationModel, mixture: Tensor, sample_rate: int) -> Tensor:
    """Run a model on segments of its own length, one at a time to save memory.

    A window of a composite model is as long as the longest window of its models.
    """
    rule, length = model.segments, mixture.shape[-1]
    alignment = model.chunk_alignment(sample_rate)
    step, context = (
        math.ceil(seconds * sample_rate / alignment) * alignment
        for seconds in (rule.seconds, rule.context_seconds)
    )
    if not rule.chunk_invariant or step == 0 or length <= step + 2 * context:
        return model(mixture, sample_rate=sample_rate)  # type: ignore[no-any-return]
    pieces = []
    for start in range(0, length, step):
        begin = max(0, start - context)
        piece = model(mixture[..., begin : start + step + context], sample_rate=sample_rate)
        pieces.append(piece[..., start - begin : start - begin + step])
    return torch.cat(pieces, dim=-1)
