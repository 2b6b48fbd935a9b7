import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from sfisep_core.data.mixing import MixingConfig
from sfisep_core.errors import ConfigError
from sfisep_core.models.registry import build_model
from sfisep_core.training.config import (
    DEFAULT_PRESET,
    PRESETS,
    TrainingConfig,
    load_config,
    show_config,
)

PRESET_NAMES = sorted(path.stem for path in PRESETS.glob("*.toml"))


def test_default_preset_is_there() -> None:
    assert DEFAULT_PRESET in PRESET_NAMES
    assert load_config() == load_config(Path(DEFAULT_PRESET))


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_preset_builds_its_model(name: str) -> None:
    config = load_config(Path(name))
    assert config == load_config(PRESETS / f"{name}.toml")
    model = build_model(config.family, config.model)
    assert set(model.sources) == {"vocals", "drums", "bass", "other"}


def test_file_settings_and_defaults(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        "steps = 7\nlearning_rate = 1\nvalidation_rates = [8000]\n"
        "[mixing]\nexcerpt_seconds = 2\nspeeds = [1, 1.5]\n"
        "[model]\nnum_filters = 32\n[model.tcn]\nnum_layers = 2\n"
    )
    assert load_config(file) == TrainingConfig(
        steps=7,
        learning_rate=1.0,
        validation_rates=(8000,),
        mixing=MixingConfig(excerpt_seconds=2.0, speeds=(1.0, 1.5)),
        model={"num_filters": 32, "tcn": {"num_layers": 2}},
    )


def test_overrides_are_stronger_than_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("steps = 7\nseed = 3\n[model]\nnum_filters = 32\n")
    overrides = [
        "steps=9",
        "learning_rate=1e-4",
        "schedule=cosine",  # a bare word
        'loss="si-sdr"',
        "compile=true",
        "mixing.speeds=[1.0, 1.5]",
        "mixing.gain_db=0",
        "model.tcn.norm=frame",
        "model.mask=free",
        "batch_size=2",
        "batch_size=3",  # the last one counts
    ]
    config = load_config(file, overrides=overrides)
    assert config == TrainingConfig(
        steps=9,
        seed=3,
        learning_rate=1e-4,
        schedule="cosine",
        loss="si-sdr",
        compile=True,
        batch_size=3,
        mixing=MixingConfig(speeds=(1.0, 1.5), gain_db=0.0),
        model={"num_filters": 32, "tcn": {"norm": "frame"}, "mask": "free"},
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=0", "training setting steps: expected at least 1, got 0"),
        ("steps=9.5", "training: steps: expected a value of type int, got 9.5"),
        ("steps=nine", "training: steps: expected a value of type int, got 'nine'"),
        ("steps=true", "training: steps: expected a value of type int, got True"),
        ("decay_share=1.5", "training setting decay_share: expected 0 to 1, got 1.5"),
        ("ema_decay=-0.1", "training setting ema_decay: expected 0 to 1, got -0.1"),
        ("learning_rate=nan", "training setting learning_rate: expected at least 0, got nan"),
        (
            "schedule=linear",
            "training: schedule: expected one of stable, cosine, got 'linear'",
        ),
        ("loss=l1", "training: loss: expected one of snr, si-sdr, got 'l1'"),
        ("mixing=3", "training: mixing: expected a table of settings, got 3"),
        ("mixing.speeds=1.0", "training: mixing: speeds: expected a list, got 1.0"),
        ("mixing.speeds=[]", "training setting mixing.speeds: expected values above 0, got []"),
        (
            "mixing.sample_rates=[8000, 0]",
            "training setting mixing.sample_rates: expected values above 0, got [8000, 0]",
        ),
        (
            "mixing.excerpt_seconds=-1",
            "training setting mixing.excerpt_seconds: expected values above 0, got [-1.0]",
        ),
        (
            "validation_rates=[]",
            "training setting validation_rates: expected values above 0, got []",
        ),
        ("steps.x=1", "setting 'steps.x=1': steps is not a table of settings"),
        ("steps", "setting 'steps': expected key=value, e.g. batch_size=8"),
        ("=3", "setting '=3': expected key=value, e.g. batch_size=8"),
        (
            "family=demucs",
            "model family 'demucs': unknown; expected one of sfi-conv-tasnet",
        ),
        (
            "model.tcn.norm=layer",
            "sfi-conv-tasnet model: tcn: norm: expected one of global, batch, frame, window, "
            "got 'layer'",
        ),
        (
            "model.tcn.norm_window=4",
            "norm window: expected an odd number of frames of at least 1, got 4",
        ),
    ],
)
def test_error_names_key_value_and_what_is_allowed(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(overrides=[override])
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("override", "where", "key"),
    [
        ("stepz=1", "training", "stepz"),
        ("mixing.speed=1", "training: mixing", "speed"),
        ("model.filter=1", "sfi-conv-tasnet model", "filter"),
        ("model.tcn.layers=1", "sfi-conv-tasnet model: tcn", "layers"),
    ],
)
def test_unknown_key_lists_the_known_ones(override: str, where: str, key: str) -> None:
    pattern = f"^{where}: unknown setting '{key}'; expected one of [a-z]\\w*(, [a-z]\\w*)+$"
    with pytest.raises(ConfigError, match=pattern):
        load_config(overrides=[override])


@pytest.mark.parametrize("setting", ["norm_groups=7", "norm_groups=0", "bottleneck_channels=-3"])
def test_sizes_that_do_not_fit_fail_before_training(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.partition("=")[0]):
        load_config(overrides=["model.tcn.norm=global", f"model.tcn.{setting}"])


def test_missing_file_names_the_presets(tmp_path: Path) -> None:
    path = tmp_path / "missing.toml"
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert str(raised.value) == (
        f"configuration {path}: no such file, nor a preset ({', '.join(PRESET_NAMES)})"
    )


def test_file_that_is_no_toml(tmp_path: Path) -> None:
    broken = tmp_path / "c.toml"
    for content in (b"steps = ", b"\xff\xfe"):
        broken.write_bytes(content)
        with pytest.raises(ConfigError, match=f"^configuration {re.escape(str(broken))}: expected"):
            load_config(broken)
    with pytest.raises(ConfigError, match=r"expected a TOML file: .*directory"):
        load_config(tmp_path)


def test_shown_configuration_is_complete_json() -> None:
    config = load_config(overrides=["steps=9"])
    assert json.loads(show_config(config)) == json.loads(json.dumps(asdict(config)))
    assert json.loads(show_config(config))["steps"] == 9
