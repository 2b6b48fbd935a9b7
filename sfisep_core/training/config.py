"""Settings of a training run, from a preset or TOML file and overrides."""

import json
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from sfisep_core.config_values import build_config
from sfisep_core.data.mixing import MixingConfig
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.registry import FAMILIES, build_model
from sfisep_core.pretrained.native import first_line
from sfisep_core.training.checkpoint import CHECKPOINT_NAME, load_checkpoint
from sfisep_core.training.losses import LossKind

PRESETS = Path(__file__).parent / "presets"
DEFAULT_PRESET = "default"

# What a resumed run cannot change: its weights and its random numbers hang on them.
_FIXED = ("family", "model", "mixing", "seed", "batch_size", "loss")
_NATIVE_RATES = (1000, 384000)


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what a run computes."""

    family: str = "sfi-conv-tasnet"
    model: dict[str, Any] = field(default_factory=dict)  # settings of the family
    mixing: MixingConfig = field(default_factory=MixingConfig)
    seed: int = 0
    steps: int = 10000
    batch_size: int = 6
    loss: LossKind = "snr"
    floor_db: float = -30.0  # of the SNR loss, relative to the mixture
    mask_silent: bool = False  # leave silent stems out of the SNR loss (SI-SDR always does)
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 100
    # stable: constant, then linear to zero over the last decay_share of the steps. The constant
    # part does not depend on `steps`, so a run can be prolonged or ended early.
    schedule: Literal["stable", "cosine"] = "stable"
    decay_share: float = 0.2
    clip_norm: float = 5.0
    ema_decay: float = 0.999
    checkpoint_minutes: float = 5.0
    validation_excerpts: int = 24
    validation_rates: tuple[int, ...] = (8000, 16000, 32000)
    compile: bool = False  # torch.compile of the network behind the encoder

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        for name, low, high in (
            ("seed", 0, 2**63 - 1),
            ("steps", 1, None),
            ("batch_size", 1, None),
            ("floor_db", -200, 0),
            ("learning_rate", 0, 1000),
            ("weight_decay", 0, 1000),
            ("warmup_steps", 0, None),
            ("decay_share", 0, 1),
            ("ema_decay", 0, 1),
            ("checkpoint_minutes", 0, None),
            ("validation_excerpts", 1, None),
        ):
            value = getattr(self, name)
            if not (value >= low and (high is None or value <= high)):  # NaN neither
                allowed = f"at least {low}" if high is None else f"{low} to {high}"
                msg = f"training setting {name}: expected {allowed}, got {value}"
                raise ConfigError(msg)
        if not self.clip_norm > 0:
            msg = f"training setting clip_norm: expected a value above 0, got {self.clip_norm}"
            raise ConfigError(msg)
        lists: dict[str, tuple[float, ...]] = {
            "validation_rates": self.validation_rates,
            "mixing.sample_rates": self.mixing.sample_rates,
            "mixing.speeds": self.mixing.speeds,
            "mixing.excerpt_seconds": (self.mixing.excerpt_seconds,),
        }
        for name, values in lists.items():
            if not values or not all(0 < value < math.inf for value in values):
                msg = f"training setting {name}: expected values above 0, got {list(values)}"
                raise ConfigError(msg)


def load_config(file: Path | None = None, *, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Load a training configuration.

    Args:
        file: TOML file, or the name of a preset; None for the default preset.
        overrides: `key=value` texts; nested keys with dots (`model.tcn.norm=frame`), values as in
            TOML, bare words as text.

    Returns:
        The configuration; the model's settings have been checked too.

    Raises:
        ConfigError: Unreadable file, unknown key, or a value that does not fit.
    """
    return _build(_read(file or Path(DEFAULT_PRESET)), overrides)


def resumed_config(
    out: Path, *, file: Path | None = None, overrides: Sequence[str] = ()
) -> TrainingConfig:
    """Load the configuration with which a run goes on: its own, unless told otherwise.

    Args:
        out: Folder of the run.
        file: TOML file or preset to take instead of the run's own settings; None for those.
        overrides: As in `load_config`, on top of them.

    Returns:
        The configuration.

    Raises:
        CheckpointError: There is no run to resume, or its checkpoint cannot be read.
        ConfigError: As in `load_config`, or a setting differs that a run keeps from its start:
            the model's, the mixing's, family, seed, batch_size or loss.
    """
    checkpoint = out / CHECKPOINT_NAME
    stored = load_checkpoint(checkpoint).get("config")
    if not isinstance(stored, dict):
        msg = f"checkpoint {checkpoint}: holds no settings of a run"
        raise CheckpointError(msg)
    config = _build(stored if file is None else _read(file), overrides)
    kept, wanted = (_flat(_expanded(c)) for c in (_build(stored, ()), config))
    for key, value in wanted.items():
        if key.partition(".")[0] in _FIXED and kept.get(key) != value:
            msg = (
                f"training setting {key}: the run in {out} has {kept.get(key)!r} and cannot go on "
                f"with {value!r}: leave it out, or start a new run in another --out"
            )
            raise ConfigError(msg)
    return config


def show_config(config: TrainingConfig) -> str:
    """Give a configuration, the model's defaults included, as readable JSON."""
    return json.dumps(_expanded(config), indent=2)


def _read(path: Path) -> dict[str, Any]:
    """Read a TOML file, or the preset of a bare name."""
    preset = PRESETS / f"{path.name}.toml"
    # os.path answers "no" where pathlib raises: a name too long.
    if path == Path(path.name) and not os.path.isfile(path) and os.path.isfile(preset):
        path = preset
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        presets = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.toml")))
        msg = f"configuration {path}: no such file, nor a preset ({presets})"
        raise ConfigError(msg) from error
    except (OSError, ValueError, RecursionError) as error:
        msg = f"configuration {path}: expected a TOML file: {error}"
        raise ConfigError(msg) from error


def _build(values: Mapping[str, Any], overrides: Sequence[str]) -> TrainingConfig:
    changed = deepcopy(dict(values))
    for override in overrides:
        _apply_override(changed, override)
    config = build_config(TrainingConfig, changed, where="training")
    _try_model(config)
    return config


@torch.no_grad()
def _try_model(config: TrainingConfig) -> None:
    """Fail early on settings of a model that do not fit each other."""
    try:
        model = build_model(config.family, config.model)
        rate, (lowest, highest) = model.native_rate, _NATIVE_RATES
        if not lowest <= rate <= highest:
            msg = (
                f"training setting model.native_rate: expected {lowest} to {highest} Hz, got {rate}"
            )
            raise ConfigError(msg)
        model.eval()(torch.zeros(1, 1, rate // 10), sample_rate=rate)
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        msg = f"training settings model: a {config.family} cannot be made so: {first_line(error)}"
        raise ConfigError(msg) from error


def _expanded(config: TrainingConfig) -> dict[str, Any]:
    """Give the settings as plain values, those of the model in full."""
    kind, _ = FAMILIES[config.family]
    return {**asdict(config), "model": asdict(build_config(kind, config.model))}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give nested settings by dotted name."""
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
            msg = f"setting {override!r}: {parent} is not a table of settings"
            raise ConfigError(msg)
    table[name] = value
