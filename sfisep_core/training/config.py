"""Settings of a training run, from a preset or TOML file and overrides."""

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
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
    build_config,
)
from sfisep_core.data.mixing import MixingConfig
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.registry import FAMILIES
from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.training.checkpoint import CHECKPOINT_NAME, load_checkpoint
from sfisep_core.training.config_files import read_settings
from sfisep_core.training.dissimilarity import DissimilarityConfig
from sfisep_core.training.losses import LossName, check_losses
from sfisep_core.training.trial import RATES, try_model

DEFAULT_PRESET = "default"

# Settings that a resumed run cannot change: weights, moments and random numbers depend on them.
_FIXED = (
    "family",
    "model",
    "mixing",
    "seed",
    "batch_size",
    "loss",
    "floor_db",
    "window_seconds",
    "dissimilarity",
    "mask_silent",
    "optimizer",
    "precision",
)


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


def load_config(
    file: Path | None = None, *, overrides: Sequence[str] = (), init: str | None = None
) -> TrainingConfig:
    """Load a training configuration.

    Args:
        file: TOML file, or the name of a preset; None for the default preset.
        overrides: `key=value` texts; nested keys with dots (`model.tcn.norm=frame`), values as in
            TOML, bare words as text. A table replaces the whole table (`loss={si-sdr=1}`), a dotted
            key one entry (`loss.stft=0.5`).
        init: Name or file of the initial model. Settings of a model that the configuration leaves
            out are those of an initial model of its family. A super-resolved model is built on it,
            or on its separator if it is super-resolved itself.

    Returns:
        The configuration; the model's settings are checked too.

    Raises:
        ConfigError: Unreadable file, unknown key, or invalid value.
        CheckpointError: `init` cannot be read.
    """
    settings = read_settings(file or Path(DEFAULT_PRESET))
    _, kind = FAMILIES.get(str(settings.get("family")), (None, None))
    if init is not None and kind is not None and kind.trained_on_top:
        on_top = kind.settings_on(resolve_model(init))
        settings["model"] = {**settings.get("model", {}), **on_top}
    elif init is not None and kind is not None and "model" not in settings:
        initial = resolve_model(init)
        if initial.family == kind.family:
            settings["model"] = initial.config_dict()
    return _build(settings, overrides)


def resumed_config(
    out: Path, *, file: Path | None = None, overrides: Sequence[str] = ()
) -> TrainingConfig:
    """Load the configuration of a resumed run: its own, with changes.

    Args:
        out: Folder of the run.
        file: TOML file or preset that replaces the run's own settings; None keeps them.
        overrides: As in `load_config`, applied on top.

    Returns:
        The configuration.

    Raises:
        CheckpointError: There is no run to resume, or its checkpoint cannot be read.
        ConfigError: As in `load_config`, or a setting differs that a run cannot change: those of
            model, mixing and losses, family, seed, batch_size, optimizer or precision.
    """
    checkpoint = out / CHECKPOINT_NAME
    stored = load_checkpoint(checkpoint).get("config")
    if not isinstance(stored, dict):
        msg = f"checkpoint {checkpoint}: holds no settings of a run"
        raise CheckpointError(msg)
    config = _build(stored if file is None else read_settings(file), overrides)
    kept, wanted = (_flat(_expanded(c)) for c in (build_config(TrainingConfig, stored), config))
    for key in sorted(kept.keys() | wanted.keys()):
        if key.partition(".")[0] in _FIXED and kept.get(key) != wanted.get(key):
            msg = (
                f"training setting {key}: the run in {out} has {kept.get(key)!r} and cannot go on "
                f"with {wanted.get(key)!r}: leave it out, or start a new run in another folder"
            )
            raise ConfigError(msg)
    return config


def show_config(config: TrainingConfig) -> str:
    """Return a configuration, the model's defaults included, as readable JSON."""
    return json.dumps(_expanded(config), indent=2)


def _refuse(name: str, allowed: str, value: object) -> None:
    msg = f"training setting {name}: expected {allowed}, got {value}"
    raise ConfigError(msg)


def _build(values: Mapping[str, Any], overrides: Sequence[str]) -> TrainingConfig:
    # `loss.stft=0.5` adds to the default losses.
    changed = {"loss": dict(TrainingConfig().loss), **deepcopy(dict(values))}
    for override in overrides:
        _apply_override(changed, override)
    config = build_config(TrainingConfig, changed, where="training")
    check_losses(config.loss, try_model(config.family, config.model, config.rates))
    return config


def _expanded(config: TrainingConfig) -> dict[str, Any]:
    """Return the settings as plain values, with all of the model's settings."""
    kind, _ = FAMILIES[config.family]
    return {**asdict(config), "model": asdict(build_config(kind, config.model))}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        msg = f"setting {override!r}: expected key=value, e.g. batch_size=8"
        raise ConfigError(msg)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text  # a bare word
    *parents, name = key.split(".")
    table = values
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            msg = f"setting {override!r}: {parent} is not a table of settings: see --show-config"
            raise ConfigError(msg)
    table[name] = value
