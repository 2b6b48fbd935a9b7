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

    Attributes:
        family: Name of the model's family; `sfisep models list --families` lists them.
        model: Settings of the family by name; those left out have the family's defaults.
        mixing: How training examples are drawn and augmented.
        seed: Seed of the initial weights and of all random draws.
        steps: Updates of the weights in the whole run.
        batch_size: Examples of one update, over all processes and micro-batches.
        accumulation: Micro-batches of an update, which are computed one after the other; a divisor
            of `batch_size`.
        loss: Weights of the losses by name. "snr", "si-sdr" and "pit-si-snr" are in dB, all others
            are relative to the mixture.
        floor_db: Floor of energies in the losses "snr" and "stft", and for silent stems in
            "si-sdr"; in dB relative to the energy of the mixture.
        window_seconds: Seconds of a window of the spectra in the losses "complex-mse",
            "magnitude-l1" and "dissimilarity"; the hop is a quarter of it.
        dissimilarity: Settings of the loss "dissimilarity".
        mask_silent: Whether silent stems, below -60 dB of the mixture's energy, are left out of the
            loss.
        optimizer: Optimizer of the weights; "radam-lookahead" is RAdam with Lookahead.
        learning_rate: Learning rate at the end of the warm-up, which `schedule` then changes.
        betas: Decay per step of the running means of gradients and of their squares; not for
            "adadelta".
        rho: Decay per step of the running means of squared gradients and squared updates;
            "adadelta" only.
        epsilon: Smallest denominator of an update. "adadelta" adds it to both means before their
            roots are taken; there it has the unit of a squared gradient.
        weight_decay: Decay of weight matrices, decoupled from the gradients' moments. Norms,
            biases, slopes and analog filters have none; nor has "adadelta".
        lookahead_steps: Steps between updates of the slow weights; "radam-lookahead" only.
        lookahead_alpha: Share of the distance to the fast weights by which an update moves the slow
            weights; "radam-lookahead" only.
        schedule: Course of the learning rate after the warm-up. "stable": constant, then linear to
            zero over the last `decay_share` of the steps; the constant part does not depend on
            `steps`, so a run can be extended or ended early. "cosine": half a period of a cosine to
            zero over all steps. "cosine-restarts": the same over `restart_steps`, repeated.
        warmup_steps: Steps over which the learning rate rises linearly, in every schedule; 0 =
            none.
        decay_share: Share of the steps over which the learning rate falls at the end; "stable"
            only; 0 = none.
        restart_steps: Steps from one restart to the next; "cosine-restarts" only.
        restart_factor: Height of a cosine relative to the one before; "cosine-restarts" only.
        clip_norm: Norm of all gradients above which they are scaled down to it; inf = gradients are
            not clipped.
        ema_decay: Decay per step of the moving average of the weights, which is what is validated
            and stored; 0 = the weights themselves.
        precision: Numbers of the network. "fp32": 32 bits. "bf16" and "fp16": 16 bits, where
            samples, losses and weights keep 32; "fp16" also scales the loss. "fp64": 64 bits
            everywhere.
        compile: Whether the network is compiled first.
        epoch_steps: Steps between validations.
        patience: Validations in a row without a better score that end the run; 0 = it never ends
            early.
        checkpoint_minutes: Minutes between checkpoints.
        log_steps: Steps between entries of the log.
        validation_rates: Hz, sampling frequencies at which validation tracks are separated; the
            score is a mean over them.
        validation_seconds: Seconds in the middle of every validation track that are separated; 0 =
            whole tracks.
        validation_tracks: Number of validation tracks, from the first on; 0 = all.
        audio_examples: Number of validation tracks, from the first on, whose estimates are written
            at every validation.

    Raises:
        ConfigError: A value is out of range, or contradicts another.
    """

    section = "training setting "

    family: str = "sfi-conv-tasnet"
    model: dict[str, Any] = field(default_factory=dict)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    steps: Count = 10000
    batch_size: Annotated[int, Range(1, 65536)] = 6
    accumulation: Annotated[int, Range(1, 65536)] = 1
    loss: dict[LossName, Annotated[float, Range(0, 1_000_000_000, above_low=True)]] = field(
        default_factory=lambda: {"snr": 1.0}
    )
    floor_db: Annotated[float, Range(-200, 0)] = -30.0
    window_seconds: PositiveShare = 0.064
    dissimilarity: DissimilarityConfig = field(default_factory=DissimilarityConfig)
    mask_silent: bool = False
    optimizer: Literal["adamw", "radam-lookahead", "adadelta"] = "adamw"
    learning_rate: Annotated[float, Range(0, 1000)] = 2e-3
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.999)
    rho: Share = 0.95
    epsilon: PositiveShare = 1e-8
    weight_decay: Annotated[float, Range(0, 1000)] = 1e-2
    lookahead_steps: Count = 6
    lookahead_alpha: PositiveShare = 0.5
    schedule: Literal["stable", "cosine", "cosine-restarts"] = "stable"
    warmup_steps: CountOrNone = 100
    decay_share: Share = 0.2
    restart_steps: Count = 200_000
    restart_factor: PositiveShare = 0.85
    clip_norm: Annotated[float, Range(0, math.inf, above_low=True)] = 5.0
    ema_decay: Share = 0.999
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"
    compile: bool = False
    epoch_steps: Count = 500
    patience: CountOrNone = 0
    checkpoint_minutes: Annotated[float, Range(0, math.inf)] = 5.0
    log_steps: Count = 20
    validation_rates: tuple[SampleRate, ...] = (8000, 16000, 32000)
    validation_seconds: Annotated[float, Range(0, 1_000_000)] = 30.0
    validation_tracks: CountOrNone = 0
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
