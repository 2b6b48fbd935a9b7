"""Settings that claim too much are refused before memory is taken for them."""

import json
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from safetensors.torch import save_file

from sfisep_core.config_values import Range, build_config
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.registry import FAMILIES, build_model
from sfisep_core.pretrained.model_files import load_model
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.config_loading import load_config

CONFIGS = {
    **{family: config for family, (config, _) in FAMILIES.items()},
    "training": TrainingConfig,
}


def numbers(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, bool]]:
    """List the settings that are numbers: path, declared type, whether a tuple of them."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = hints[field.name]
        if is_dataclass(hint):
            yield from numbers(hint, (*path, field.name))
            continue
        for part in (hint, *get_args(hint)):
            plain = get_args(part)[0] if get_origin(part) is Annotated else part
            if plain in (int, float):
                # tables of anything are settings of a model, which are checked there
                yield (*path, field.name), part, get_origin(hint) is tuple
                break


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    assert isinstance(value, dict)
    return value


CASES = [
    pytest.param(family, path, hint, many, id=f"{family} {'.'.join(path)}")
    for family, kind in CONFIGS.items()
    for path, hint, many in numbers(kind)
]


@pytest.mark.parametrize(("family", "path", "hint", "many"), CASES)
def test_every_number_has_a_range(
    family: str, path: tuple[str, ...], hint: Any, many: bool
) -> None:
    assert get_origin(hint) is Annotated, "declare it as Annotated[int, Range(low, high)]"
    kind, *extras = get_args(hint)
    (allowed,) = (extra for extra in extras if isinstance(extra, Range))
    # Never, and as much as one likes: without an upper end.
    endless = path[-1] in ("clip_norm", "checkpoint_minutes")
    assert math.isfinite(allowed.high) or endless
    values = [-1e9 if kind is float else -(10**9)]
    if kind is float:
        values.append(math.nan)
    if not endless:
        values.append(1e308 if kind is float else 2**70)
    for value in values:
        with pytest.raises(ConfigError) as raised:
            build_config(CONFIGS[family], nested(path, [value] * 2 if many else value))
        message = str(raised.value)
        assert f"{path[-1]}: expected " in message
        assert "got " in message
        assert len(message) < 300


@pytest.mark.parametrize(("family", "path", "hint", "many"), CASES)
def test_defaults_are_in_their_ranges(
    family: str, path: tuple[str, ...], hint: Any, many: bool
) -> None:
    del hint, many
    value = CONFIGS[family]()
    for name in path:
        value = getattr(value, name)
    assert isinstance(value, int | float | tuple | dict) or value is None


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "text"),
    [
        (Range(1, 9), (1, 9), (0, 10, math.nan), "1 to 9"),
        (Range(0, 1, above_low=True), (0.1, 1), (0, 1.1), "above 0 and at most 1"),
        (Range(0, 1, below_high=True), (0, 0.9), (-1, 1), "at least 0 and below 1"),
        (Range(0, math.inf), (0, math.inf), (-1, math.nan), "at least 0"),
        (Range(0, math.inf, above_low=True), (1, math.inf), (0,), "a value above 0"),
        (Range(1, 9, parity="odd"), (1, 9), (2, 11), "an odd number of 1 to 9"),
        (Range(2, 8, parity="even"), (2, 8), (3, 0), "an even number of 2 to 8"),
    ],
)
def test_ranges(
    allowed: Range, inside: tuple[float, ...], outside: tuple[float, ...], text: str
) -> None:
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)
    assert str(allowed) == text


# Each within its range; together 10^11 weights and more.
HUGE = {
    "num_filters": 4096,
    "tcn": {
        "bottleneck_channels": 4096,
        "hidden_channels": 8192,
        "num_layers": 16,
        "num_stacks": 8,
    },
}


def test_a_model_file_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    description = {"format_version": 1, "family": "sfi-conv-tasnet", "config": HUGE}
    small = build_model("conv-tasnet", {"num_filters": 8, "tcn": {"num_layers": 1}})
    save_file(small.state_dict(), path, {"sfisep": json.dumps(description)})
    with pytest.raises(CheckpointError, match="weights and description do not fit: "):
        load_model(path)


@pytest.mark.slow
def test_sizes_that_only_together_are_too_large() -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(
            overrides=[
                "model.num_filters=4096",
                *[f"model.tcn.{name}={value}" for name, value in HUGE["tcn"].items()],  # type: ignore[attr-defined]
            ]
        )
    assert str(raised.value) == (
        "training settings model: expected a sfi-conv-tasnet of at most 1000000000 weights, got "
        "more: choose smaller sizes"
    )


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("sfi-conv-tasnet", {"num_filters": 4096, "stride": 1}),
        ("conv-tasnet", {"num_filters": 4096, "kernel_size": 2, "native_rate": 44100}),
        ("unet", {"native_rate": 44100, "stft": {"n_fft": 8192, "hop": 1}}),
    ],
)
def test_frames_that_are_too_large_and_too_many(family: str, config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^model setting sizes: they make [\d,]+ values"):
        build_config(FAMILIES[family][0], config)
