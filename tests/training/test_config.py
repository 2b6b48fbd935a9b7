import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sfisep_core.config_values import build_config
from sfisep_core.data.mixing import MixingConfig
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.registry import build_model
from sfisep_core.training.checkpoint import CHECKPOINT_NAME, save_checkpoint
from sfisep_core.training.config import (
    DEFAULT_PRESET,
    PRESETS,
    TrainingConfig,
    load_config,
    resumed_config,
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
        ("learning_rate=nan", "training setting learning_rate: expected 0 to 1000, got nan"),
        ("learning_rate=inf", "training setting learning_rate: expected 0 to 1000, got inf"),
        ("clip_norm=0", "training setting clip_norm: expected a value above 0, got 0.0"),
        ("clip_norm=nan", "training setting clip_norm: expected a value above 0, got nan"),
        ("seed=-1", f"training setting seed: expected 0 to {2**63 - 1}, got -1"),
        (
            "checkpoint_minutes=nan",
            "training setting checkpoint_minutes: expected at least 0, got nan",
        ),
        (
            "model.native_rate=1",
            "training setting model.native_rate: expected 1000 to 384000 Hz, got 1",
        ),
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
    config = load_config(overrides=["steps=9", "model.tcn.kernel_size=5"])
    shown = json.loads(show_config(config))
    plain = json.loads(json.dumps(asdict(config)))
    assert shown == {**plain, "model": shown["model"]}
    assert shown["steps"] == 9
    model = build_model(config.family, config.model)
    assert shown["model"] == json.loads(json.dumps(model.config_dict()))
    assert (shown["model"]["kernel_size"], shown["model"]["tcn"]["kernel_size"]) == (160, 5)


def test_shown_configuration_is_valid_input() -> None:
    config = load_config()
    again = build_config(TrainingConfig, json.loads(show_config(config)))
    assert show_config(again) == show_config(config)
    assert replace(again, model=config.model) == config


@pytest.mark.parametrize(
    "override",
    [
        "model.tcn.num_layers=70",
        "model.num_filters=1" + "0" * 15,
        "model.native_rate=1" + "0" * 400,
    ],
)
def test_models_that_cannot_be_made_are_one_line(override: str) -> None:
    with pytest.raises(ConfigError, match=r"^training setting[^\n]* model[^\n]*\Z"):
        load_config(overrides=[override])


def test_value_that_cannot_be_parsed_is_a_word() -> None:
    for text in ("[" * 10000, "1" * 10000):
        with pytest.raises(ConfigError, match=r"^training: steps: expected a value of type int"):
            load_config(overrides=[f"steps={text}"])


def test_preset_has_a_bare_name(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / DEFAULT_PRESET
    with pytest.raises(ConfigError, match=f"^configuration {re.escape(str(path))}: no such file"):
        load_config(path)


def test_name_too_long_for_a_file() -> None:
    with pytest.raises(ConfigError, match=r"^configuration n{300}: .*name too long"):
        load_config(Path("n" * 300))


STORED = TrainingConfig(
    model={"num_filters": 16, "tcn": {"num_layers": 2}},
    mixing=MixingConfig(speeds=(1.0,)),
    seed=3,
    steps=9,
    learning_rate=1e-4,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Give a run's folder with a checkpoint that holds settings only."""
    save_checkpoint(tmp_path / CHECKPOINT_NAME, {"config": asdict(STORED)})
    return tmp_path


def test_resumed_run_has_its_own_settings(run: Path) -> None:
    assert resumed_config(run) == STORED
    config = resumed_config(
        run, overrides=["steps=12", "schedule=cosine", "validation_rates=[4000]"]
    )
    assert config == replace(STORED, steps=12, schedule="cosine", validation_rates=(4000,))


def test_resumed_run_takes_a_file_of_the_same_model(run: Path) -> None:
    file = run / "c.toml"
    same = "seed = 3\n[model]\nnum_filters = 16\nstride = 80\ntcn.num_layers = 2\n"
    file.write_text(f"steps = 12\n{same}[mixing]\nspeeds = [1]\n")
    config = resumed_config(run, file=file, overrides=["batch_size=6"])  # 6 is the run's own
    assert (config.steps, config.learning_rate) == (12, TrainingConfig().learning_rate)
    assert config.model["stride"] == 80
    file.write_text(f"{same}[mixing]\nspeeds = [1, 2]\n")
    with pytest.raises(ConfigError, match=r"^training setting mixing\.speeds: the run in"):
        resumed_config(run, file=file)


@pytest.mark.parametrize(
    ("override", "key", "old", "new"),
    [
        ("seed=4", "seed", 3, 4),
        ("batch_size=7", "batch_size", 6, 7),
        ("loss=si-sdr", "loss", "snr", "si-sdr"),
        ("mixing.gain_db=1", "mixing.gain_db", 4.0, 1.0),
        ("model.stride=40", "model.stride", 80, 40),  # a default of the stored model
        ("model.tcn.num_layers=3", "model.tcn.num_layers", 2, 3),
    ],
)
def test_resumed_run_keeps_what_it_started_with(
    override: str, key: str, old: object, new: object, run: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        resumed_config(run, overrides=[override])
    assert str(raised.value) == (
        f"training setting {key}: the run in {run} has {old!r} and cannot go on with {new!r}: "
        "leave it out, or start a new run in another --out"
    )


def test_checkpoint_without_settings(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / CHECKPOINT_NAME, {"config": [1]})
    with pytest.raises(CheckpointError, match=r"holds no settings of a run$"):
        resumed_config(tmp_path)
    with pytest.raises(CheckpointError, match=r"there is no run to resume$"):
        resumed_config(tmp_path / "elsewhere")
