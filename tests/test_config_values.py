from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from sfisep_core.config_values import build_config
from sfisep_core.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    """A nested table."""

    size: int = 3
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    """A table with a field of every supported kind."""

    name: str = "x"
    rate: float = 1.0
    count: int = 1
    flag: bool = False
    limit: float | None = None
    words: tuple[str, ...] = ("one",)
    numbers: tuple[float, ...] = ()
    inner: Inner = field(default_factory=Inner)
    extra: dict[str, int] = field(default_factory=dict)


def test_defaults_stay() -> None:
    assert build_config(Outer, {}) == Outer()


def test_all_kinds_of_values() -> None:
    values = {
        "name": "y",
        "rate": 2.5,
        "count": 7,
        "flag": True,
        "limit": 0.5,
        "words": ["a", "b"],
        "numbers": [1, 2.5],
        "inner": {"size": 9, "kind": "b"},
        "extra": {"k": 1},
    }
    assert build_config(Outer, values) == Outer(
        name="y",
        rate=2.5,
        count=7,
        flag=True,
        limit=0.5,
        words=("a", "b"),
        numbers=(1.0, 2.5),
        inner=Inner(size=9, kind="b"),
        extra={"k": 1},
    )


def test_whole_numbers_are_floats_where_floats_are_asked_for() -> None:
    config = build_config(Outer, {"rate": 3, "limit": 4, "numbers": (5,)})
    for value in (config.rate, config.limit, config.numbers[0]):
        assert type(value) is float
    assert (config.rate, config.limit, config.numbers) == (3.0, 4.0, (5.0,))


def test_none_is_for_optional_fields_only() -> None:
    assert build_config(Outer, {"limit": None}).limit is None
    with pytest.raises(ConfigError, match="name: expected a value of type str, got None"):
        build_config(Outer, {"name": None})


def test_a_built_table_may_be_given() -> None:
    with pytest.raises(ConfigError, match="inner: expected a table of settings"):
        build_config(Outer, {"inner": [1]})
    assert build_config(Outer, {"inner": {}}).inner == Inner()


def test_unknown_names_are_listed_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(Inner, {"size": 1, "zzz": 2, "colour": 3}, where="model")
    assert str(caught.value) == "model: unknown setting 'colour'; expected one of size, kind"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 2.0}, "run: count: expected a value of type int, got 2.0"),
        ({"count": True}, "run: count: expected a value of type int, got True"),
        ({"count": "2"}, "run: count: expected a value of type int, got '2'"),
        ({"rate": "fast"}, "run: rate: expected a value of type float, got 'fast'"),
        ({"rate": True}, "run: rate: expected a value of type float, got True"),
        ({"flag": 1}, "run: flag: expected a value of type bool, got 1"),
        ({"name": 3}, "run: name: expected a value of type str, got 3"),
        ({"limit": "x"}, "run: limit: expected a value of type float, got 'x'"),
        ({"words": "one"}, "run: words: expected a list, got 'one'"),
        ({"words": ["one", 2]}, "run: words: expected a value of type str, got 2"),
        ({"extra": [1]}, "run: extra: expected a table, got [1]"),
        ({"inner": {"kind": "c"}}, "run: inner: kind: expected one of a, b, got 'c'"),
        ({"inner": {"kind": ["a"]}}, "run: inner: kind: expected one of a, b, got ['a']"),
        ({"inner": {"size": None}}, "run: inner: size: expected a value of type int, got None"),
        ({"inner": {"deep": 1}}, "run: inner: unknown setting 'deep'; expected one of size, kind"),
    ],
)
def test_values_of_another_kind_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(Outer, values, where="run")
    assert str(caught.value) == message
