"""Read settings of training runs from TOML files and presets."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfisep_core.errors import ConfigError
from sfisep_core.models.registry import FAMILIES
from sfisep_core.training.presets import PRESETS, list_presets


@dataclass(frozen=True)
class Family:
    """A family of separators.

    Attributes:
        name: Name in settings and model files.
        description: Description in one line.
        presets: Names of presets of this family.
    """

    name: str
    description: str
    presets: tuple[str, ...]


def read_settings(path: Path) -> dict[str, Any]:
    """Read a TOML file, or the preset of a bare name, merged into the preset of its `base` key.

    Args:
        path: Path of the file, or name of the preset.

    Returns:
        Its settings as plain values.

    Raises:
        ConfigError: The file or preset does not exist, or is not TOML.
    """
    preset = PRESETS / f"{path.name}.toml"
    # os.path returns False where pathlib raises: a name too long.
    if path == Path(path.name) and not os.path.isfile(path) and os.path.isfile(preset):
        path = preset
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        presets = ", ".join(list_presets())
        msg = f"configuration {path}: no such file, nor a preset: name one of {presets}"
        raise ConfigError(msg) from error
    except (OSError, ValueError, RecursionError) as error:
        msg = f"configuration {path}: expected a TOML file: {error}"
        raise ConfigError(msg) from error
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str) or not os.path.isfile(PRESETS / f"{base}.toml"):
        presets = ", ".join(list_presets())
        msg = f"configuration {path}: base: expected the name of a preset ({presets}), got {base!r}"
        raise ConfigError(msg)
    return _merged(read_settings(Path(base)), values)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested settings; losses are replaced as a whole."""
    merged = {**base, **changes}
    for key in base.keys() & changes.keys() - {"loss"}:
        if isinstance(base[key], Mapping) and isinstance(changes[key], Mapping):
            merged[key] = _merged(base[key], changes[key])
    return merged


def list_families() -> list[Family]:
    """Return the families that can be trained."""
    presets: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for name in list_presets():
        presets[read_settings(Path(name))["family"]].append(name)
    return [
        Family(family, (model.__doc__ or "").strip().splitlines()[0], tuple(presets[family]))
        for family, (_, model) in FAMILIES.items()
    ]
