"""The interface that every family of separators implements."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from torch import Tensor, nn

from sfisep_core.config_values import CheckedConfig, Range, SampleRate
from sfisep_core.errors import ConfigError
from sfisep_core.models.sources import DEFAULT_SOURCES, check_sources

GainRule = Literal["mixture-consistent", "least-squares", "none"]
BuildModel = Callable[[str, Mapping[str, Any]], "SeparationModel"]
"""Builds a model from the name of its family and its settings."""
SourcesOf = Callable[[str, Mapping[str, Any]], tuple[str, ...]]
"""Reads the sources of a model from the name of its family and its settings."""

# 128 MiB a second of one channel, of which a network keeps several copies. Conv-TasNet with 512
# filters two samples apart at 44.1 kHz has a third of them.
_MAX_VALUES_PER_SECOND = 2**25

# Names of stems that hold the residual: what the other stems leave of the mixture.
REST_NAMES = ("other", "accompaniment", "instrumental")


def rest_of(sources: Sequence[str]) -> str | None:
    """Return the source that holds the residual of the others, or None if there is none."""
    return next((name for name in REST_NAMES if name in sources), None)


@dataclass(frozen=True)
class FamilyConfig(CheckedConfig):
    """Settings that most families share; each family adds its own.

    Attributes:
        sources: Names of the stems, in the order of the source axis. Sources without names of their
            own, as two speakers, are "s1", "s2", ...
        native_rate: Hz, the sampling frequency of training; sizes in samples are given at it.
        gain_rule: How the sum of the stems is made to fit the mixture. "mixture-consistent": the
            model itself distributes what the stems lack of the mixture over them. "least-squares":
            after separation every stem gets one gain, fitted to the mixture. "none": stems are not
            changed, whatever their sum.
        normalizes_level: Whether each channel is divided by its standard deviation before
            separation, so that the level of a recording does not matter.
        segment_seconds: Seconds of a long signal that are separated at once, context excluded; 0 =
            the whole signal.
        context_seconds: Seconds on either side of a segment that the model takes as input and whose
            output is discarded.

    Raises:
        ConfigError: A value is out of range, sources are not distinct plain words, or the model
            would exhaust memory.
    """

    section = "model setting "

    sources: tuple[str, ...] = DEFAULT_SOURCES
    native_rate: SampleRate = 44100
    gain_rule: GainRule = "least-squares"
    normalizes_level: bool = False
    segment_seconds: Annotated[int, Range(0, 3600)] = 20
    context_seconds: Annotated[float, Range(0, 600)] = 0.5

    def __post_init__(self) -> None:
        """Check values and names, and that they do not ask for too much together."""
        super().__post_init__()
        check_sources(self.sources)
        if self.values_per_second > _MAX_VALUES_PER_SECOND:
            msg = (
                f"{self.section}sizes: they make {self.values_per_second:,.0f} values of a second "
                f"of one channel; expected at most {_MAX_VALUES_PER_SECOND:,}: take fewer filters, "
                "or a longer stride or hop"
            )
            raise ConfigError(msg)

    @property
    def values_per_second(self) -> float:
        """Values of the latent or spectrum, for each second of one channel; 0 if unknown."""
        return 0.0


@dataclass(frozen=True)
class SegmentRule(CheckedConfig):
    """How long signals are cut into segments for a model.

    Attributes:
        seconds: Length of a segment without its context, whole seconds; 0 = the whole signal at
            once.
        context_seconds: Seconds on either side that the model takes as input and whose output is
            discarded.
        chunk_invariant: Whether segments with this context give the same stems as the whole signal.

    Raises:
        ConfigError: A length is out of its range.
    """

    section = "segment rule: "

    seconds: Annotated[int, Range(0, 3600)]
    context_seconds: Annotated[float, Range(0, 600)]
    chunk_invariant: bool


class SeparationModel(nn.Module, ABC):
    """A separator: mixture in, stems out, at any rate that the family supports.

    Attributes:
        family: Name of the family in the registry.
        config: Frozen dataclass from which the model can be built again.
        sources: Names in the order of the source axis.
        native_rate: Rate in Hz at which the model was trained.
        gain_rule: "mixture-consistent": stems already add up to the mixture. "least-squares": gains
            are fitted afterwards (`separation.gains`). "none": stems are not changed, whatever
            their sum.
        normalizes_level: Whether each channel is divided by its standard deviation before
            separation.
        segments: How long signals are cut.
        stage_rates: Hz, one for each intermediate estimate. In training mode `forward` returns
            these estimates too, before the final one on the source axis; each is compared with the
            stems in the band of its rate.
        above_rate: Hz; the training loss covers only the band above half of this rate; 0 = all.
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

    def configure(self, config: FamilyConfig, *, chunk_invariant: bool) -> None:
        """Take the attributes that follow from the settings most families share.

        Args:
            config: The family's configuration.
            chunk_invariant: Whether segments with its context give the same stems as the whole
                signal.
        """
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

    @classmethod
    def from_config(cls, config: Any, build: BuildModel) -> Self:
        """Build a model with initial weights.

        Args:
            config: The family's configuration.
            build: Builds a model of any family, for families that contain one.

        Raises:
            ConfigError: Settings contradict each other.
        """
        del build
        return cls(config)

    @classmethod
    def settings_on(cls, model: "SeparationModel") -> dict[str, Any]:
        """Return settings of a new model of this family that contains a trained model.

        Args:
            model: The trained one.

        Returns:
            Settings by name; none for families that are not trained on top of another.
        """
        del model
        return {}

    @property
    def base(self) -> "SeparationModel | None":
        """The separator that this model contains and does not train, or None."""
        return None

    @classmethod
    def sources_of(cls, config: Any, sources_of: SourcesOf) -> tuple[str, ...]:
        """Read the sources of a model from its configuration, without building the model.

        Args:
            config: The family's configuration.
            sources_of: Reads the sources of a model of any family, for families that contain one.
        """
        del sources_of
        return tuple(config.sources)

    @abstractmethod
    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        """Separate a mixture.

        Args:
            mixture: Shape (batch, channel, time), any number of channels, any length from 0 on.
            sample_rate: Sampling frequency of the mixture in Hz.

        Returns:
            Stems, shape (batch, source, channel, time). In training mode, for a model with
            `stage_rates`, shape (batch, stage * source, channel, time).

        Raises:
            ConfigError: The family cannot work at this rate.
        """

    def require_native_rate(self, sample_rate: int) -> None:
        """Check that a rate is the native one, for models that work at no other.

        Args:
            sample_rate: Sampling frequency of a mixture in Hz.

        Raises:
            ConfigError: It is another rate.
        """
        if sample_rate != self.native_rate:
            msg = (
                f"{self.family} model at {sample_rate} Hz: it works at {self.native_rate} Hz only; "
                "pass --method resample (to evaluate: --no-native --baseline resample; with "
                f"--super-resolve: --low-rate {self.native_rate})"
            )
            raise ConfigError(msg)

    def chunk_alignment(self, sample_rate: int) -> int:
        """Return the number of samples of which starts of segments must be a multiple."""
        del sample_rate
        return 1

    def in_stages(self) -> "Sequence[Stage]":
        """Return the models that run one after the other instead of this one; none = itself."""
        return ()

    def in_members(self) -> "Sequence[Member]":
        """Return the models whose mean this one is; none = it is not a mean."""
        return ()

    def for_inference(self, *, compiled: bool = False) -> "SeparationModel":
        """Return an equivalent model with fewer operations: the model itself, or a copy.

        Args:
            compiled: Keep operations that a compiler can fuse.
        """
        del compiled
        return self

    def compile_network(self, *, dynamic: bool | None = None) -> None:
        """Compile, in place, what does not depend on the rate (the whole model unless overridden).

        Args:
            dynamic: As in `torch.compile`: True for lengths that differ from call to call.
        """
        self.compile(dynamic=dynamic)

    def config_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values, for checkpoints."""
        return asdict(self.config)


@dataclass(frozen=True)
class Stage:
    """One of several models that run one after the other.

    Attributes:
        model: It separates what the stages before it leave of the mixture. What the last one leaves
            is added to its residual source (`rest_of`) or, if it keeps none, distributed over the
            sources that it keeps.
        keep: The sources whose estimates become stems of the whole.
    """

    model: SeparationModel
    keep: tuple[str, ...]


@dataclass(frozen=True)
class Member:
    """One of several models whose stems are averaged.

    Attributes:
        model: It has all sources of the whole. What these leave of the mixture is added to its
            estimate of the residual source (`rest_of`) or, if the whole has none, distributed over
            all of them.
        share: Its share of the mean, above 0; those of all members add up to 1.
    """

    model: SeparationModel
    share: float
