"""Settings of a training run, from a preset or TOML file and overrides."""

import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from sfisep_core.config_values import build_config
from sfisep_core.data.mixing import MixingConfig
from sfisep_core.errors import ConfigError
from sfisep_core.models.registry import build_model
from sfisep_core.training.losses import LossKind

PRESETS = Path(__file__).parent / "presets"
DEFAULT_PRESET = "default"


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
            ("steps", 1, None),
            ("batch_size", 1, None),
            ("learning_rate", 0, None),
            ("decay_share", 0, 1),
            ("ema_decay", 0, 1),
            ("validation_excerpts", 1, None),
        ):
            value = getattr(self, name)
            if not (value >= low and (high is None or value <= high)):  # NaN neither
                allowed = f"at least {low}" if high is None else f"{low} to {high}"
                msg = f"training setting {name}: expected {allowed}, got {value}"
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
    path = file or Path(DEFAULT_PRESET)
    if not path.is_file() and (PRESETS / f"{path.name}.toml").is_file():
        path = PRESETS / f"{path.name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        presets = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.toml")))
        msg = f"configuration {path}: no such file, nor a preset ({presets})"
        raise ConfigError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"configuration {path}: expected a TOML file: {error}"
        raise ConfigError(msg) from error
    for override in overrides:
        _apply_override(values, override)
    config = build_config(TrainingConfig, values, where="training")
    build_model(config.family, config.model)  # fails early on settings that do not fit
    return config


def show_config(config: TrainingConfig) -> str:
    """Give a configuration as readable JSON."""
    return json.dumps(asdict(config), indent=2)


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        msg = f"setting {override!r}: expected key=value, e.g. batch_size=8"
        raise ConfigError(msg)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word
    *parents, name = key.split(".")
    table = values
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            msg = f"setting {override!r}: {parent} is not a table of settings"
            raise ConfigError(msg)
    table[name] = value
