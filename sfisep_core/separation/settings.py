"""Settings of a separation. Only light modules are imported, so checks are fast."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from sfisep_core.audio.rates import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from sfisep_core.errors import ConfigError

MethodName = Literal[
    "native",
    "resample",
    "soxr",
    "noisy-kernel",
    "post-noise",
    "direct",
    "super-resolve",
]
Precision = Literal["fp32", "bf16", "fp16"]
Progress = Callable[[float, float], None]
"""Called with seconds done and total seconds."""

# Seconds: longer than any recording.
LONGEST_SEGMENT = 1e6


@dataclass(frozen=True)
class MethodOptions:
    """Options of individual methods. Default levels were tuned on validation music, see the docs.

    Attributes:
        kernel_noise_level: "noisy-kernel": standard deviation of the noise on the taps of the
            resampling kernel, relative to the RMS of these taps; 0 or more.
        post_noise_level: "post-noise": RMS of the noise relative to that of each channel of the
            up-sampled signal; 0 or more.
        seed: Seed of both kinds of noise, 0 or more.
        low_rate: "super-resolve": rate in Hz at which the model separates; 0: the rate of
            `network`, or without one the model's native rate.
        network: "super-resolve": name or file of a super-resolved model whose network is used; "":
            the model's own if it is such a model, otherwise none.

    Raises:
        ConfigError: A value is out of range.
    """

    kernel_noise_level: float = 0.3
    post_noise_level: float = 0.03
    seed: int = 0
    low_rate: int = 0
    network: str = ""

    def __post_init__(self) -> None:
        """Check values."""
        for name in ("kernel_noise_level", "post_noise_level"):
            level = getattr(self, name)
            if not 0 <= level < math.inf:
                msg = f"{name}: expected a number of 0 (no noise) or more, got {level}"
                raise ConfigError(msg)
        if self.seed < 0:
            msg = f"seed: expected a whole number of 0 or more, got {self.seed}"
            raise ConfigError(msg)
        if self.low_rate and not MIN_SAMPLE_RATE <= self.low_rate <= MAX_SAMPLE_RATE:
            msg = (
                f"low rate: expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, or 0 for the "
                f"model's own, got {self.low_rate}"
            )
            raise ConfigError(msg)


DEFAULT_OPTIONS = MethodOptions()

# The options that affect a method's result; other methods have none.
OPTIONS_OF: dict[str, tuple[str, ...]] = {
    "noisy-kernel": ("kernel_noise_level", "seed"),
    "post-noise": ("post_noise_level", "seed"),
    "super-resolve": ("low_rate", "network"),
}


@dataclass(frozen=True)
class SeparationSettings:
    """How a recording is separated by a model.

    Attributes:
        method: "native" runs the model at the recording's rate; "resample" converts to the model's
            training rate and back; the others are baselines (`separation.methods`).
        segment: Length of a segment that is separated at once, in the model's seconds; 0 = the
            whole recording, None = the model's own.
        overlap: Fraction of a window that overlaps the next one, 0 to below 1; None = the model's
            own context. Half of it on either side serves as context and is discarded.
        batch_size: Number of windows per batch, 1 or more.
        precision: Precision of the network: "fp32", "bf16" or, on GPUs, "fp16"; samples, encoder
            and decoder always use 32 bits.
        options: Options of individual methods.
        shifts: Number of time shifts whose stems are averaged, 1 or more.

    Raises:
        ConfigError: A value is out of range.
    """

    method: MethodName = "native"
    segment: float | None = None
    overlap: float | None = None
    batch_size: int = 1
    precision: Precision = "fp32"
    options: MethodOptions = DEFAULT_OPTIONS
    shifts: int = 1

    def __post_init__(self) -> None:
        """Check values."""
        if self.method not in get_args(MethodName):
            msg = f"method {self.method!r}: expected one of {', '.join(get_args(MethodName))}"
            raise ConfigError(msg)
        if self.segment is not None and not 0 <= self.segment <= LONGEST_SEGMENT:
            msg = (
                f"segment: expected seconds of 0 (the whole signal) or more, up to "
                f"{LONGEST_SEGMENT:g}, got {self.segment}"
            )
            raise ConfigError(msg)
        if self.overlap is not None and not 0 <= self.overlap < 1:
            msg = f"overlap: expected a share of a window of 0 to below 1, got {self.overlap}"
            raise ConfigError(msg)
        if self.batch_size < 1:
            msg = f"batch size: expected 1 window or more, got {self.batch_size}"
            raise ConfigError(msg)
        if self.shifts < 1:
            msg = f"shifts: expected 1 or more, got {self.shifts}"
            raise ConfigError(msg)
        if self.precision not in get_args(Precision):
            msg = f"precision: expected fp32, bf16 or fp16, got {self.precision!r}"
            raise ConfigError(msg)


DEFAULT_SETTINGS = SeparationSettings()
