"""What every family of separators is to the rest of the program."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from torch import Tensor, nn

from sfisep_core.config_values import CheckedConfig, Range
from sfisep_core.errors import ConfigError

GainRule = Literal["mixture-consistent", "least-squares", "none"]
BuildModel = Callable[[str, Mapping[str, Any]], "SeparationModel"]
"""Builds a model from the name of its family and its settings."""
SourcesOf = Callable[[str, Mapping[str, Any]], tuple[str, ...]]
"""Reads the sources of a model from the name of its family and its settings."""

# What stems are called that hold whatever the named ones leave.
REST_NAMES = ("other", "accompaniment", "instrumental")


def rest_of(sources: Sequence[str]) -> str | None:
    """Give the source that holds whatever the others leave; None where there is none."""
    return next((name for name in REST_NAMES if name in sources), None)


@dataclass(frozen=True)
class SegmentRule(CheckedConfig):
    """How a model wants long signals cut.

    Attributes:
        seconds: Kept length of a segment, whole seconds; 0 = the whole signal at once.
        context_seconds: Seconds on either side that are given to the model and discarded.
        chunk_invariant: Whether segments, given the context, agree with the whole signal.

    Raises:
        ConfigError: A length is out of its range.
    """

    section = "segment rule: "

    seconds: Annotated[int, Range(0, 3600)]
    context_seconds: Annotated[float, Range(0, 600)]
    chunk_invariant: bool


class SeparationModel(nn.Module, ABC):
    """A separator: mixture in, stems out, at any rate the family can serve.

    Attributes:
        family: Name of the family in the registry.
        config: Frozen dataclass that builds the model again.
        sources: Names in the order of the source axis.
        native_rate: Rate in Hz at which the model was trained.
        gain_rule: "mixture-consistent": stems already add up to the mixture.
            "least-squares": gains are to be fitted afterwards (`separation.gains`). "none": stems
            stay as they are, whatever their sum.
        normalizes_level: Whether each channel is to be divided by its standard deviation first.
        segments: How long signals are cut.
        stage_rates: Hz, one for every estimate that comes before the final one. While training,
            `forward` gives these too, in front of it on the source axis; each is compared with the
            stems in the band of its rate.
        above_rate: Hz; training compares only what a signal of this rate cannot hold; 0 = all.
        trained_on_top: Whether a model of this family is trained on top of another, its `base`.
    """

    family: ClassVar[str]
    config: Any
    sources: tuple[str, ...]
    native_rate: int
    gain_rule: GainRule
    normalizes_level: bool
    segments: SegmentRule
    stage_rates: tuple[int, ...] = ()
    above_rate: int = 0
    trained_on_top: ClassVar[bool] = False

    @classmethod
    def from_config(cls, config: Any, build: BuildModel) -> Self:
        """Build a model with fresh weights.

        Args:
            config: The family's configuration.
            build: Builds a model of any family, for families that contain one.

        Raises:
            ConfigError: A setting does not fit another.
        """
        del build
        return cls(config)

    @classmethod
    def settings_on(cls, model: "SeparationModel") -> dict[str, Any]:
        """Return the settings that put a new model of this family on top of a trained one.

        Args:
            model: The trained one.

        Returns:
            Settings by name; none for families that are not trained on top of another.
        """
        del model
        return {}

    @property
    def base(self) -> "SeparationModel | None":
        """The separator that this model contains and does not train; None where there is none."""
        return None

    @classmethod
    def sources_of(cls, config: Any, sources_of: SourcesOf) -> tuple[str, ...]:
        """Read the sources of a model from its configuration, without building the model.

        Args:
            config: The family's configuration.
            sources_of: Reads those of a model of any family, for families that contain one.
        """
        del sources_of
        return tuple(config.sources)

    @abstractmethod
    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate.

        Args:
            mixture: Shape (batch, channel, time), any number of channels, any length from 0 on.
            sample_rate: Sampling frequency of the mixture in Hz.

        Returns:
            Stems, shape (batch, source, channel, time); while training a model with `stage_rates`
            (batch, stage source, channel, time).

        Raises:
            ConfigError: The family cannot work at this rate.
        """

    def require_native_rate(self, sample_rate: int) -> None:
        """Refuse other rates than the native one, for models that work at no other.

        Args:
            sample_rate: Sampling frequency of a mixture in Hz.

        Raises:
            ConfigError: It is another.
        """
        if sample_rate != self.native_rate:
            msg = (
                f"{self.family} model at {sample_rate} Hz: it works at {self.native_rate} Hz only; "
                "pass --method resample (to evaluate: --no-native --baseline resample; with "
                f"--super-resolve: --low-rate {self.native_rate})"
            )
            raise ConfigError(msg)

    def chunk_alignment(self, sample_rate: int) -> int:
        """Give the number of samples of which starts of segments have to be a multiple."""
        del sample_rate
        return 1

    def for_inference(self, *, compiled: bool = False) -> "SeparationModel":
        """Give what separates the same with fewer operations: the model itself, or a copy.

        Args:
            compiled: Leave it in operations that a compiler fuses.
        """
        del compiled
        return self

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile, in place, what does not depend on the rate (all of it unless overridden).

        Args:
            dynamic: As in `torch.compile`: True for lengths that differ from call to call.
        """
        self.compile(dynamic=dynamic)

    def config_dict(self) -> dict[str, Any]:
        """Give the configuration as plain values, for checkpoints."""
        return asdict(self.config)
