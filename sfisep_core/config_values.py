"""Build frozen configuration dataclasses from plain values (TOML, JSON), with errors that help."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import (
    Any,
    Literal,
    NoReturn,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from sfisep_core.errors import ConfigError

_Config = TypeVar("_Config")

_SHOWN = 100  # characters of a value in an error message


def build_config(
    kind: type[_Config], values: Mapping[str, Any], *, where: str = "configuration"
) -> _Config:
    """Build a (nested) configuration dataclass.

    Args:
        kind: The dataclass; its fields are scalars, Literals, tuples, tables with one kind of
            values, or dataclasses.
        values: Plain values by field name; fields left out keep their defaults, those of a nested
            dataclass the ones that it has where it is nested.
        where: What the values belong to, for error messages.

    Returns:
        The dataclass.

    Raises:
        ConfigError: An unknown name, or a value of another type than the field's.
    """
    return _build(kind, values, where, "", _defaults(kind))


def _build(
    kind: type[_Config],
    values: Mapping[str, Any],
    where: str,
    prefix: str,
    defaults: Mapping[str, Any],
) -> _Config:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    _refuse_unknown(values, names, hints, where, prefix)
    built = {
        name: _convert(hints[name], value, where, f"{prefix}{name}", defaults.get(name))
        for name, value in values.items()
    }
    return kind(**{**defaults, **built})


def _defaults(kind: Any) -> dict[str, Any]:
    """Give what a dataclass has for each of its fields, where nothing is said."""
    given = {f.name: f.default for f in fields(kind) if f.default is not MISSING}
    return given | {
        f.name: f.default_factory() for f in fields(kind) if f.default_factory is not MISSING
    }


def _refuse_unknown(
    values: Mapping[str, Any],
    names: Sequence[str],
    hints: Mapping[str, Any],
    where: str,
    prefix: str,
) -> None:
    unknown = sorted(set(values) - set(names))
    if not unknown:
        return
    # Names of nested tables too: what is left out most easily is the table's name.
    full = {name: f"{prefix}{name}" for name in names}
    for name in names:
        if is_dataclass(hints.get(name)):
            full |= {f.name: f"{prefix}{name}.{f.name}" for f in fields(hints[name])}
    close = [full[name] for name in get_close_matches(unknown[0], full)]
    hint = f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(names)}"
    msg = f"{where}: unknown setting {prefix + unknown[0]!r}; {hint}"
    raise ConfigError(msg)


def _convert(kind: Any, value: Any, where: str, name: str, default: Any = None) -> Any:
    at = f"{where}: {name}"
    if is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, Mapping):
            known = _defaults(kind)
            if is_dataclass(default):
                known = {f.name: getattr(default, f.name) for f in fields(default)}
            return _build(kind, value, where, f"{name}.", known)
        _refuse(at, "a table of settings", value)
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in choices:
            _refuse(at, "one of " + ", ".join(map(str, choices)), value)
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in choices:
            return None
        return _convert(next(c for c in choices if c is not type(None)), value, where, name)
    if origin is tuple:
        any_length = choices[-1] is Ellipsis
        if not isinstance(value, list | tuple) or not (any_length or len(value) == len(choices)):
            _refuse(at, "a list" if any_length else f"a list of {len(choices)} values", value)
        return tuple(_convert(choices[0], item, where, name) for item in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            names = get_args(choices[0])
            _refuse(at, f"a table, as in {{{names[0]} = 1.0}}" if names else "a table", value)
        return _convert_table(choices[0], choices[1], value, where, name)
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return _as_float(value, at)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        _refuse(at, f"a value of type {kind.__name__}", value)
    return value


def _convert_table(
    key_kind: Any, value_kind: Any, table: Mapping[str, Any], where: str, name: str
) -> dict[str, Any]:
    if get_origin(key_kind) is Literal:
        _refuse_unknown(table, get_args(key_kind), {}, where, f"{name}.")
    return {k: _convert(value_kind, v, where, f"{name}.{k}") for k, v in table.items()}


def _as_float(value: int, at: str) -> float:
    try:
        return float(value)
    except OverflowError:
        _refuse(at, "a value of type float", value)


def _refuse(at: str, expected: str, value: object) -> NoReturn:
    given = repr(value)
    if len(given) > _SHOWN:
        given = f"{given[:_SHOWN]}..."
    msg = f"{at}: expected {expected}, got {given}"
    raise ConfigError(msg)
