"""Load settings of a training run from a preset or TOML file and overrides."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sfisep_core.config_values import build_config
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.registry import FAMILIES
from sfisep_core.pretrained.resolve import resolve_model
from sfisep_core.training.checkpoint import CHECKPOINT_NAME, load_checkpoint
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.config_files import read_settings
from sfisep_core.training.losses import check_losses
from sfisep_core.training.trial import try_model

DEFAULT_PRESET = "sfi-conv-tasnet-small"

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


def load_config(
    file: Path | None = None, *, overrides: Sequence[str] = (), init: str | None = None
) -> TrainingConfig:
    """Load a training configuration.

    Args:
        file: TOML file, or the name of a preset; None for the default preset.
        overrides: `key=value` texts; nested keys with dots (`model.tcn.norm=frame`), values as in
            TOML, bare words as text. A table replaces the whole table (`loss={si-sdr=1}`), a dotted
            key one entry (`loss.stft=0.5`). Another family has its own default model.
        init: Name or file of the initial model. Settings of a model that the configuration leaves
            out are those of an initial model of its family. A super-resolved model is built on it,
            or on its separator if it is super-resolved itself.

    Returns:
        The configuration; the model's settings are checked too.

    Raises:
        ConfigError: Unreadable file, unknown key, or invalid value.
        CheckpointError: `init` cannot be read.
    """
    settings = _of_family(read_settings(file or Path(DEFAULT_PRESET)), overrides)
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
    settings = _of_family(stored if file is None else read_settings(file), overrides)
    config = _build(settings, overrides)
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


def _build(values: Mapping[str, Any], overrides: Sequence[str]) -> TrainingConfig:
    """Build a configuration from what `_of_family` returned, and the overrides."""
    # `loss.stft=0.5` adds to the default losses.
    changed = {"loss": dict(TrainingConfig().loss), **values}
    for override in overrides:
        _apply_override(changed, override)
    config = build_config(TrainingConfig, changed, where="training")
    check_losses(config.loss, try_model(config.family, config.model, config.rates))
    return config


def _of_family(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Copy settings with the overrides of the family; those of another family's model go."""
    changed, default = deepcopy(dict(values)), TrainingConfig().family
    for override in overrides:
        if override.startswith("family="):
            _apply_override(changed, override)
    if changed.get("family", default) != values.get("family", default):
        changed.pop("model", None)
    return changed


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
