"""Build frozen configuration dataclasses from plain values (TOML, JSON), with errors that help."""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sfisep_core.errors import ConfigError

_Config = TypeVar("_Config")


def build_config(
    kind: type[_Config], values: Mapping[str, Any], *, where: str = "configuration"
) -> _Config:
    """Build a (nested) configuration dataclass.

    Args:
        kind: The dataclass; its fields are scalars, Literals, tuples of one kind, or dataclasses.
        values: Plain values by field name; fields left out keep their defaults.
        where: What the values belong to, for error messages.

    Returns:
        The dataclass.

    Raises:
        ConfigError: An unknown name, or a value of another type than the field's.
    """
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    if unknown:
        msg = f"{where}: unknown setting {unknown[0]!r}; expected one of {', '.join(names)}"
        raise ConfigError(msg)
    built = {
        name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()
    }
    return kind(**built)


def _convert(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, Mapping):
            return build_config(kind, value, where=where)
        _refuse(where, "a table of settings", value)
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in choices:
            _refuse(where, "one of " + ", ".join(map(str, choices)), value)
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in choices:
            return None
        return _convert(next(c for c in choices if c is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            _refuse(where, "a list", value)
        return tuple(_convert(choices[0], item, where) for item in value)
    if origin is dict or kind is dict:
        if not isinstance(value, Mapping):
            _refuse(where, "a table", value)
        return dict(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        _refuse(where, f"a value of type {kind.__name__}", value)
    return value


def _refuse(where: str, expected: str, value: object) -> None:
    msg = f"{where}: expected {expected}, got {value!r}"
    raise ConfigError(msg)
