"""Frozen configuration dataclasses, built from plain values (TOML, JSON) and range-checked."""

import math
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import (
    Annotated,
    Any,
    ClassVar,
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

_SHOWN = 100  # maximum length of a value in an error message


@dataclass(frozen=True)
class Range:
    """The valid numbers of a setting, declared as `Annotated[int, Range(1, 64)]`.

    Attributes:
        low: Lowest number.
        high: Highest number; infinity for none.
        above_low: Whether `low` itself is excluded.
        below_high: Whether `high` itself is excluded.
        parity: "odd" or "even" numbers only, or "any".
    """

    low: float
    high: float
    above_low: bool = False
    below_high: bool = False
    parity: Literal["any", "odd", "even"] = "any"

    def __contains__(self, value: float) -> bool:
        """Tell whether a value is in the range; NaN never is."""
        low = self.low < value if self.above_low else self.low <= value
        high = value < self.high if self.below_high else value <= self.high
        parity = self.parity == "any" or value % 2 == (self.parity == "odd")
        return bool(low and high and parity)

    def __str__(self) -> str:
        """Describe the range for an error message."""
        kind = "" if self.parity == "any" else f"an {self.parity} number of "
        if math.isinf(self.high):
            return f"{kind}{'a value above' if self.above_low else 'at least'} {self.low}"
        if self.above_low or self.below_high:
            low = f"above {self.low}" if self.above_low else f"at least {self.low}"
            return f"{kind}{low} and {'below' if self.below_high else 'at most'} {self.high}"
        return f"{kind}{self.low} to {self.high}"


# Ranges of many settings. Upper bounds limit memory.
Count = Annotated[int, Range(1, 1_000_000_000)]
CountOrNone = Annotated[int, Range(0, 1_000_000_000)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, below_high=True)]
PositiveShare = Annotated[float, Range(0, 1, above_low=True)]
SampleRate = Annotated[int, Range(1, 384_000)]  # Hz


class CheckedConfig:
    """Base of configuration dataclasses, which checks the declared ranges of values.

    It checks numbers with a `Range`, also in tuples and tables, and fields of `Literal` type. Rules
    between fields belong in `__post_init__` of the subclass, after this one.

    Attributes:
        section: Prefix of the name of a setting in error messages.

    Raises:
        ConfigError: A value is out of its range; the message names the setting and its default.
    """

    section: ClassVar[str] = "setting "

    def __post_init__(self) -> None:
        """Check all fields."""
        kind: Any = type(self)
        defaults = _defaults(kind)
        for name, hint in _checked_hints(kind).items():
            value = getattr(self, name)
            for key, item in _items(name, value):
                self._check(key, item, value, hint, defaults.get(name))

    def _check(self, name: str, item: Any, value: Any, hint: Any, default: Any) -> None:
        holds = item in hint if isinstance(hint, Range) else item in get_args(hint)
        if holds:
            return
        expected = hint if isinstance(hint, Range) else " or ".join(map(str, get_args(hint)))
        shown = list(value) if isinstance(value, tuple) else item
        msg = f"{self.section}{name}: expected {expected}, got {_shortened(shown)}"
        if default is not None and not isinstance(default, Mapping):
            usual = list(default) if isinstance(default, tuple) else default
            msg += f": leave it out for the default, {usual}"
        raise ConfigError(msg)


def _shortened(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@cache
def _checked_hints(kind: type) -> dict[str, Any]:
    """Return the range or the Literal type of each field that has one."""
    hints = get_type_hints(kind, include_extras=True)
    checked = {field.name: _checked_hint(hints[field.name]) for field in fields(kind)}
    return {name: hint for name, hint in checked.items() if hint is not None}


def _checked_hint(hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return next((a for a in arguments if isinstance(a, Range)), None)
    if origin is Literal:
        return hint
    if origin is dict:  # keys are checked elsewhere
        return _checked_hint(arguments[1])
    inner = (_checked_hint(argument) for argument in arguments)
    return next((hint for hint in inner if hint is not None), None)


def _items(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"{name}.{key}", item) for key, item in value.items())
    elif isinstance(value, tuple):
        yield from ((name, item) for item in value)
    elif value is not None:
        yield name, value


def build_config(
    kind: type[_Config], values: Mapping[str, Any], *, where: str = "configuration"
) -> _Config:
    """Build a (nested) configuration dataclass.

    Args:
        kind: The dataclass; its fields are scalars, Literals, tuples, tables with one kind of
            values, or dataclasses.
        values: Plain values by field name; fields left out have their defaults, which for a nested
            dataclass are those of the field. The text "none" stands for None where a field may be
            None.
        where: Origin of the values, for error messages.

    Returns:
        The dataclass.

    Raises:
        ConfigError: A name is unknown, or a value has another type than its field.
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
    """Return the default of each field of a dataclass."""
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
    # Names in nested tables too, because the table's name is often forgotten.
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
        if value in (None, "none") and type(None) in choices:  # TOML has no null
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
    msg = f"{at}: expected {expected}, got {_shortened(given)}"
    raise ConfigError(msg)
