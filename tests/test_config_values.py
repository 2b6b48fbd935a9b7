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
    own: Inner = field(default_factory=lambda: Inner(size=5, kind="b"))
    extra: dict[str, int] = field(default_factory=dict)
    pair: tuple[float, float] = (0.0, 1.0)
    weights: dict[Literal["low", "high"], float] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)


def test_defaults_stay() -> None:
    assert build_config(Outer, {}) == Outer()


def test_a_nested_table_keeps_the_defaults_of_its_place() -> None:
    config = build_config(Outer, {"inner": {"kind": "b"}, "own": {"kind": "a"}})
    assert (config.inner, config.own) == (Inner(3, "b"), Inner(5, "a"))


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
        "pair": [3, 4],
        "weights": {"high": 2},
        "anything": {"a": [1], "b": {"c": None}},
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
        pair=(3.0, 4.0),
        weights={"high": 2.0},
        anything={"a": [1], "b": {"c": None}},
    )


def test_whole_numbers_are_floats_where_floats_are_asked_for() -> None:
    values = {"rate": 3, "limit": 4, "numbers": (5,), "weights": {"low": 6}}
    config = build_config(Outer, values)
    for value in (config.rate, config.limit, config.numbers[0], config.weights["low"]):
        assert type(value) is float
    assert (config.rate, config.limit, config.numbers) == (3.0, 4.0, (5.0,))


def test_none_is_for_optional_fields_only() -> None:
    assert build_config(Outer, {"limit": None}).limit is None
    with pytest.raises(ConfigError, match="name: expected a value of type str, got None"):
        build_config(Outer, {"name": None})


def test_the_word_none_is_for_optional_fields_only() -> None:
    """TOML has no other way to say it."""
    assert build_config(Outer, {"limit": "none"}).limit is None
    assert build_config(Outer, {"name": "none"}).name == "none"
    with pytest.raises(ConfigError, match="rate: expected a value of type float, got 'none'"):
        build_config(Outer, {"rate": "none"})


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
        ({"inner": {"kind": "c"}}, "run: inner.kind: expected one of a, b, got 'c'"),
        ({"inner": {"kind": ["a"]}}, "run: inner.kind: expected one of a, b, got ['a']"),
        ({"inner": {"size": None}}, "run: inner.size: expected a value of type int, got None"),
        ({"inner": {"deep": 1}}, "run: unknown setting 'inner.deep'; expected one of size, kind"),
        ({"pair": [1]}, "run: pair: expected a list of 2 values, got [1]"),
        ({"pair": [1, 2, 3]}, "run: pair: expected a list of 2 values, got [1, 2, 3]"),
        ({"pair": 1}, "run: pair: expected a list of 2 values, got 1"),
        ({"extra": {"k": "x"}}, "run: extra.k: expected a value of type int, got 'x'"),
        ({"weights": 3}, "run: weights: expected a table, as in {low = 1.0}, got 3"),
        ({"weights": {"low": True}}, "run: weights.low: expected a value of type float, got True"),
        ({"weights": {"mid": 1}}, "run: unknown setting 'weights.mid'; expected one of low, high"),
        ({"weights": {"hig": 1}}, "run: unknown setting 'weights.hig'; did you mean weights.high?"),
        ({"nam": 1}, "run: unknown setting 'nam'; did you mean name?"),
        ({"sise": 1}, "run: unknown setting 'sise'; did you mean own.size?"),
        ({"rate": 10**400}, f"run: rate: expected a value of type float, got 1{'0' * 99}..."),
    ],
)
def test_values_of_another_kind_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(Outer, values, where="run")
    assert str(caught.value) == message
