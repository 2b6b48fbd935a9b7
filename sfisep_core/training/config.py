"""Settings of a training run."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from sfisep_core.config_values import (
    CheckedConfig,
    Count,
    CountOrNone,
    PositiveShare,
    Range,
    SampleRate,
    Share,
    ShareBelowOne,
)
from sfisep_core.data.mixing_config import MixingConfig
from sfisep_core.errors import ConfigError
from sfisep_core.training.dissimilarity import DissimilarityConfig
from sfisep_core.training.losses import LossName
from sfisep_core.training.trial import RATES


@dataclass(frozen=True)
class TrainingConfig(CheckedConfig):
    """All settings that affect what a run computes.

    Raises:
        ConfigError: A value is out of range, or contradicts another.
    """

    section = "training setting "

    family: str = "sfi-conv-tasnet"
    model: dict[str, Any] = field(default_factory=dict)  # settings of the family
    mixing: MixingConfig = field(default_factory=MixingConfig)
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    steps: Count = 10000
    # Examples per update, over all processes and micro-batches
    batch_size: Annotated[int, Range(1, 65536)] = 6
    accumulation: Annotated[int, Range(1, 65536)] = 1  # micro-batches per update
    # Weights by name: snr, si-sdr, pit-si-snr (in dB), and relative to the mixture l1, stft,
    # complex-mse, magnitude-l1, dissimilarity.
    loss: dict[LossName, Annotated[float, Range(0, 1_000_000_000, above_low=True)]] = field(
        default_factory=lambda: {"snr": 1.0}
    )
    # Floor of a source's energy, relative to the mixture's
    floor_db: Annotated[float, Range(-200, 0)] = -30.0
    window_seconds: PositiveShare = 0.064  # window of the last three losses' spectra
    dissimilarity: DissimilarityConfig = field(default_factory=DissimilarityConfig)
    mask_silent: bool = False  # leave silent stems out of the loss
    optimizer: Literal["adamw", "radam-lookahead", "adadelta"] = "adamw"
    learning_rate: Annotated[float, Range(0, 1000)] = 2e-3
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.999)  # not for adadelta
    rho: Share = 0.95  # adadelta only
    epsilon: PositiveShare = 1e-8
    weight_decay: Annotated[float, Range(0, 1000)] = 1e-2  # not for adadelta
    lookahead_steps: Count = 6  # radam-lookahead only
    lookahead_alpha: PositiveShare = 0.5
    # stable: constant, then linear to zero over the last decay_share of the steps. The constant
    # part does not depend on `steps`, so a run can be extended or ended early.
    schedule: Literal["stable", "cosine", "cosine-restarts"] = "stable"
    warmup_steps: CountOrNone = 100  # of every schedule
    decay_share: Share = 0.2
    restart_steps: Count = 200_000  # cosine-restarts only
    restart_factor: PositiveShare = 0.85  # height of a cosine relative to the previous one
    # inf = gradients are not clipped
    clip_norm: Annotated[float, Range(0, math.inf, above_low=True)] = 5.0
    ema_decay: Share = 0.999  # 0 = validate and store the weights themselves
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"
    compile: bool = False  # torch.compile of the network after the encoder
    epoch_steps: Count = 500  # steps between validations
    patience: CountOrNone = 0  # stop after this many validations without a better score; 0 = never
    checkpoint_minutes: Annotated[float, Range(0, math.inf)] = 5.0
    log_steps: Count = 20
    validation_rates: tuple[SampleRate, ...] = (8000, 16000, 32000)
    # Length of the excerpt from the middle of every track; 0 = whole tracks
    validation_seconds: Annotated[float, Range(0, 1_000_000)] = 30.0
    validation_tracks: CountOrNone = 0  # number of first tracks; 0 = all
    # Number of validation tracks whose estimates are written at every validation
    audio_examples: CountOrNone = 0

    def __post_init__(self) -> None:
        """Check values, and combinations of them."""
        super().__post_init__()
        if self.batch_size % self.accumulation:
            allowed = f"a divisor of batch_size ({self.batch_size})"
            _refuse("accumulation", allowed, self.accumulation)
        if not self.loss:
            _refuse("loss", "one loss or more, as in {snr = 1.0}", "none")
        for name, rates in self.rates.items():
            if not rates or not all(RATES[0] <= rate <= RATES[1] for rate in rates):
                _refuse(name, f"rates of {RATES[0]} to {RATES[1]} Hz", list(rates))

    @property
    def rates(self) -> dict[str, tuple[int, ...]]:
        """Sampling frequencies at which the model must work, by the setting that requires them."""
        return {
            "mixing.sample_rates": self.mixing.sample_rates,
            "validation_rates": self.validation_rates,
        }


def _refuse(name: str, allowed: str, value: object) -> None:
    msg = f"training setting {name}: expected {allowed}, got {value}"
    raise ConfigError(msg)
