import json
import math
import re
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfisep_core.config_values import build_config
from sfisep_core.data.mixing_config import MixingConfig
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import FAMILIES, build_model
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNetConfig
from sfisep_core.pretrained.model_files import save_model
from sfisep_core.training.checkpoint import CHECKPOINT_NAME, save_checkpoint
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.config_loading import (
    DEFAULT_PRESET,
    load_config,
    resumed_config,
    show_config,
)
from sfisep_core.training.dissimilarity import DissimilarityConfig
from sfisep_core.training.presets import list_presets

PRESET_NAMES = list_presets()


@pytest.mark.slow
def test_default_preset_is_there() -> None:
    assert DEFAULT_PRESET in PRESET_NAMES
    assert load_config() == load_config(Path(DEFAULT_PRESET))


SMALL = [
    "model.num_filters=8",
    "model.tcn.bottleneck_channels=8",
    "model.tcn.hidden_channels=8",
    "model.tcn.num_layers=1",
    "model.tcn.num_stacks=1",
]


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


def test_another_family_has_its_own_default_model(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("steps = 5\n[model]\nnum_filters = 24\n[model.tcn]\nnum_layers = 2\n")
    small = {"channels": [2, 4]}
    overrides = ["model.network.channels=[2, 4]", "family=unet"]
    config = load_config(file, overrides=overrides)
    assert (config.family, config.steps, config.model) == ("unet", 5, {"network": small})
    for own in (["family=sfi-conv-tasnet"], ["family=unet", "family=sfi-conv-tasnet"]):
        kept = load_config(file, overrides=own)
        assert kept.model == {"num_filters": 24, "tcn": {"num_layers": 2}}


def test_initial_model_is_that_of_another_family() -> None:
    voice = load_config(overrides=["family=spleeter"], init="spleeter-vocals")
    assert voice.model["masks"] == "complement"
    on_top = load_config(overrides=["family=super-resolved"], init="sfi-conv-tasnet-small")
    assert on_top.model["separator"]["family"] == "sfi-conv-tasnet"


@pytest.mark.slow
def test_overrides_are_stronger_than_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("steps = 7\nseed = 3\n[model]\nnum_filters = 32\n")
    overrides = [
        "steps=9",
        "learning_rate=1e-4",
        "schedule=cosine",  # a bare word
        "loss={si-sdr=1}",
        "loss.l1=2",
        "betas=[0.5, 0]",
        "dissimilarity.against=estimates",
        "clip_norm=inf",
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
        loss={"si-sdr": 1.0, "l1": 2.0},
        betas=(0.5, 0.0),
        dissimilarity=DissimilarityConfig(against="estimates"),
        clip_norm=math.inf,
        compile=True,
        batch_size=3,
        mixing=MixingConfig(speeds=(1.0, 1.5), gain_db=0.0),
        model={"num_filters": 32, "tcn": {"norm": "frame"}, "mask": "free"},
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "steps=0",
            "training setting steps: expected 1 to 1000000000, got 0"
            ": leave it out for the default, 10000",
        ),
        ("steps=9.5", "training: steps: expected a value of type int, got 9.5"),
        ("steps=nine", "training: steps: expected a value of type int, got 'nine'"),
        ("steps=true", "training: steps: expected a value of type int, got True"),
        (
            "batch_size=0",
            "training setting batch_size: expected 1 to 65536, got 0"
            ": leave it out for the default, 6",
        ),
        (
            "accumulation=0",
            "training setting accumulation: expected 1 to 65536, got 0"
            ": leave it out for the default, 1",
        ),
        (
            "accumulation=4",
            "training setting accumulation: expected a divisor of batch_size (6), got 4",
        ),
        (
            "decay_share=1.5",
            "training setting decay_share: expected 0 to 1, got 1.5"
            ": leave it out for the default, 0.2",
        ),
        (
            "ema_decay=-0.1",
            "training setting ema_decay: expected 0 to 1, got -0.1"
            ": leave it out for the default, 0.999",
        ),
        (
            "learning_rate=nan",
            "training setting learning_rate: expected 0 to 1000, got nan"
            ": leave it out for the default, 0.002",
        ),
        (
            "learning_rate=inf",
            "training setting learning_rate: expected 0 to 1000, got inf"
            ": leave it out for the default, 0.002",
        ),
        (
            "weight_decay=-1",
            "training setting weight_decay: expected 0 to 1000, got -1.0"
            ": leave it out for the default, 0.01",
        ),
        (
            "epsilon=0",
            "training setting epsilon: expected above 0 and at most 1, got 0.0"
            ": leave it out for the default, 1e-08",
        ),
        (
            "betas=[0.9, 1]",
            "training setting betas: expected at least 0 and below 1, got [0.9, 1.0]"
            ": leave it out for the default, [0.9, 0.999]",
        ),
        ("betas=[0.9]", "training: betas: expected a list of 2 values, got [0.9]"),
        ("betas=0.9", "training: betas: expected a list of 2 values, got 0.9"),
        (
            "floor_db=3",
            "training setting floor_db: expected -200 to 0, got 3.0"
            ": leave it out for the default, -30.0",
        ),
        (
            "optimizer=sgd",
            "training: optimizer: expected one of adamw, radam-lookahead, adadelta, got 'sgd'",
        ),
        (
            "rho=1.5",
            "training setting rho: expected 0 to 1, got 1.5: leave it out for the default, 0.95",
        ),
        (
            "window_seconds=0",
            "training setting window_seconds: expected above 0 and at most 1, got 0.0"
            ": leave it out for the default, 0.064",
        ),
        (
            "dissimilarity.beta=1",
            "training setting dissimilarity.beta: expected at least 0 and below 1, got 1.0"
            ": leave it out for the default, 0.01",
        ),
        (
            "dissimilarity.against=targets",
            "training: dissimilarity.against: expected one of references, estimates, got 'targets'",
        ),
        (
            "lookahead_steps=0",
            "training setting lookahead_steps: expected 1 to 1000000000, got 0"
            ": leave it out for the default, 6",
        ),
        (
            "lookahead_alpha=0",
            "training setting lookahead_alpha: expected above 0 and at most 1, got 0.0"
            ": leave it out for the default, 0.5",
        ),
        (
            "restart_steps=0",
            "training setting restart_steps: expected 1 to 1000000000, got 0"
            ": leave it out for the default, 200000",
        ),
        (
            "restart_factor=1.1",
            "training setting restart_factor: expected above 0 and at most 1, got 1.1"
            ": leave it out for the default, 0.85",
        ),
        (
            "warmup_steps=-1",
            "training setting warmup_steps: expected 0 to 1000000000, got -1"
            ": leave it out for the default, 100",
        ),
        (
            "clip_norm=0",
            "training setting clip_norm: expected a value above 0, got 0.0"
            ": leave it out for the default, 5.0",
        ),
        (
            "clip_norm=nan",
            "training setting clip_norm: expected a value above 0, got nan"
            ": leave it out for the default, 5.0",
        ),
        ("precision=fp8", "training: precision: expected one of fp32, bf16, fp16, fp64, got 'fp8'"),
        (
            "seed=-1",
            f"training setting seed: expected 0 to {2**63 - 1}, got -1"
            ": leave it out for the default, 0",
        ),
        (
            "epoch_steps=0",
            "training setting epoch_steps: expected 1 to 1000000000, got 0"
            ": leave it out for the default, 500",
        ),
        (
            "log_steps=0",
            "training setting log_steps: expected 1 to 1000000000, got 0"
            ": leave it out for the default, 20",
        ),
        (
            "patience=-1",
            "training setting patience: expected 0 to 1000000000, got -1"
            ": leave it out for the default, 0",
        ),
        (
            "checkpoint_minutes=nan",
            "training setting checkpoint_minutes: expected at least 0, got nan"
            ": leave it out for the default, 5.0",
        ),
        (
            "validation_seconds=inf",
            "training setting validation_seconds: expected 0 to 1000000, got inf"
            ": leave it out for the default, 30.0",
        ),
        (
            "validation_tracks=-1",
            "training setting validation_tracks: expected 0 to 1000000000, got -1"
            ": leave it out for the default, 0",
        ),
        (
            "audio_examples=-1",
            "training setting audio_examples: expected 0 to 1000000000, got -1"
            ": leave it out for the default, 0",
        ),
        (
            "model.native_rate=1",
            "training setting model.native_rate: expected 1000 to 384000 Hz, got 1",
        ),
        (
            "schedule=linear",
            "training: schedule: expected one of stable, cosine, cosine-restarts, got 'linear'",
        ),
        ("loss=si-sdr", "training: loss: expected a table, as in {snr = 1.0}, got 'si-sdr'"),
        (
            "loss={}",
            "training setting loss: expected one loss or more, as in {snr = 1.0}, got none",
        ),
        (
            "loss={snr=0}",
            "training setting loss.snr: expected above 0 and at most 1000000000, got 0.0",
        ),
        (
            "loss.l1=inf",
            "training setting loss.l1: expected above 0 and at most 1000000000, got inf",
        ),
        ("loss.l1=much", "training: loss.l1: expected a value of type float, got 'much'"),
        ("loss.sisdr=1", "training: unknown setting 'loss.sisdr'; did you mean loss.si-sdr?"),
        ("mixing=3", "training: mixing: expected a table of settings, got 3"),
        ("mixing.speeds=1.0", "training: mixing.speeds: expected a list, got 1.0"),
        (
            "mixing.speeds=[]",
            "training setting mixing.speeds: expected one value or more, got none",
        ),
        (
            "mixing.sample_rates=[8000, 0]",
            "training setting mixing.sample_rates: expected 1 to 384000, got [8000, 0]"
            ": leave it out for the default, [8000, 11025, 16000, 22050, 24000, 32000]",
        ),
        (
            "mixing.sample_rates=[8000, 400000]",
            "training setting mixing.sample_rates: expected 1 to 384000, got [8000, 400000]"
            ": leave it out for the default, [8000, 11025, 16000, 22050, 24000, 32000]",
        ),
        (
            "mixing.excerpt_seconds=-1",
            "training setting mixing.excerpt_seconds: expected above 0 and at most 3600, got -1.0"
            ": leave it out for the default, 3.0",
        ),
        (
            "validation_rates=[]",
            "training setting validation_rates: expected rates of 1000 to 384000 Hz, got []",
        ),
        (
            "validation_rates=[999]",
            "training setting validation_rates: expected rates of 1000 to 384000 Hz, got [999]",
        ),
        ("steps.x=1", "setting 'steps.x=1': steps is not a table of settings: see --show-config"),
        ("steps", "setting 'steps': expected key=value, e.g. batch_size=8"),
        ("=3", "setting '=3': expected key=value, e.g. batch_size=8"),
        (
            "family=demucs",
            f"model family 'demucs': unknown; expected one of {', '.join(FAMILIES)}",
        ),
        (
            "model.tcn.norm=layer",
            "sfi-conv-tasnet model: tcn.norm: expected one of global, batch, frame, window, "
            "got 'layer'",
        ),
        (
            "model.tcn.norm_window=4",
            "model setting tcn.norm_window: expected an odd number of 1 to 100001, got 4"
            ": leave it out for the default, 201",
        ),
    ],
)
def test_error_names_key_value_and_what_is_allowed(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(overrides=[override])
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=1", "training: unknown setting 'stepz'; did you mean steps?"),
        (
            "validation_excerpts=1",
            "training: unknown setting 'validation_excerpts'; did you mean validation_rates or "
            "validation_tracks or validation_seconds?",
        ),
        ("mixing.speed=1", "training: unknown setting 'mixing.speed'; did you mean mixing.speeds?"),
        ("gain_db=1", "training: unknown setting 'gain_db'; did you mean mixing.gain_db?"),
        (
            "model.filter=1",
            "sfi-conv-tasnet model: unknown setting 'filter'; did you mean filters or num_filters?",
        ),
        (
            "model.tcn.layers=1",
            "sfi-conv-tasnet model: unknown setting 'tcn.layers'; did you mean tcn.num_layers?",
        ),
    ],
)
def test_unknown_key_names_close_ones(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(overrides=[override])
    assert str(raised.value) == message


def test_unknown_key_without_a_close_one_lists_all() -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(overrides=["zzz=1"])
    known = ", ".join(field.name for field in fields(TrainingConfig))
    assert str(raised.value) == f"training: unknown setting 'zzz'; expected one of {known}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "loss", "masked"),
    [
        ([], {"si-sdr": 1.0}, False),
        (["loss={l1=1, stft=0.5}"], {"l1": 1.0, "stft": 0.5}, False),
        (["loss.stft=0.5"], {"si-sdr": 1.0, "stft": 0.5}, False),
        (["loss={snr=2}"], {"snr": 2.0}, False),
        (["loss.snr=2"], {"si-sdr": 1.0, "snr": 2.0}, False),
        (["mask_silent=true"], {"si-sdr": 1.0}, True),
    ],
)
def test_losses_are_replaced_or_added(
    overrides: list[str], loss: dict[str, float], masked: bool
) -> None:
    config = load_config(overrides=[*SMALL, *overrides])
    assert config.loss == loss
    assert config.mask_silent is masked


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["loss={pit-si-snr=1}"],
            "training setting loss.pit-si-snr: expected sources without names, as in "
            "model.sources = ['s1', 's2'], got vocals, drums, bass, other: choose another loss",
        ),
        (
            ["model.sources=['s1', 's2']"],
            "training setting loss: for s1, s2, which are no names, expected {pit-si-snr = 1} "
            "alone and at most 5 sources, got si-sdr",
        ),
        (
            ["model.sources=['s1', 's2']", "loss={pit-si-snr=1, l1=1}"],
            "training setting loss: for s1, s2, which are no names, expected {pit-si-snr = 1} "
            "alone and at most 5 sources, got pit-si-snr, l1",
        ),
        (
            ["model.sources=['s1', 's2', 's3', 's4', 's5', 's6']", "loss={pit-si-snr=1}"],
            "training setting loss: for s1, s2, s3, s4, s5, s6, which are no names, expected "
            "{pit-si-snr = 1} alone and at most 5 sources, got pit-si-snr",
        ),
    ],
)
def test_loss_fits_the_sources(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(overrides=[*SMALL, *overrides])
    assert str(raised.value) == message


class NativeOnly(SeparationModel):
    """A model of a family that works at its own rate alone."""

    family = "native-only"

    def __init__(self, config: SFIConvTasNetConfig) -> None:
        super().__init__()
        self.config, self.native_rate = config, config.native_rate
        self.sources = config.sources

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        if sample_rate != self.native_rate:
            msg = f"works at {self.native_rate} Hz alone"
            raise ConfigError(msg)
        return torch.stack([mixture] * 4, dim=1)


@pytest.mark.parametrize("key", ["mixing.sample_rates", "validation_rates"])
def test_rates_are_those_that_the_family_can(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "native-only", (SFIConvTasNetConfig, NativeOnly))
    settings = ["family=native-only", "mixing.sample_rates=[32000]", "validation_rates=[32000]"]
    assert load_config(overrides=settings).family == "native-only"
    with pytest.raises(ConfigError) as raised:
        load_config(overrides=[*settings, f"{key}=[32000, 8000]"])
    assert str(raised.value) == (
        f"training setting {key}: expected 32000 Hz alone, the rate of this native-only, got "
        "8000 Hz; families with learned filters train at one rate"
    )


def test_every_rate_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    class Recorder(NativeOnly):
        def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
            tried.append((sample_rate, mixture.shape[-1]))
            return mixture.unsqueeze(1)

    monkeypatch.setitem(FAMILIES, "recorder", (SFIConvTasNetConfig, Recorder))
    load_config(
        overrides=[
            "family=recorder",
            "mixing.sample_rates=[8000, 32000, 8000]",
            "validation_rates=[8000, 11025]",
        ]
    )
    assert tried == [(32000, 3200), (8000, 800), (11025, 1102)]


@pytest.mark.parametrize("setting", ["norm_groups=7", "norm_groups=0", "bottleneck_channels=-3"])
def test_sizes_that_do_not_fit_fail_before_training(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.partition("=")[0]):
        load_config(overrides=["model.tcn.norm=global", f"model.tcn.{setting}"])


def test_missing_file_names_the_presets(tmp_path: Path) -> None:
    path = tmp_path / "missing.toml"
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert str(raised.value) == (
        f"configuration {path}: no such file, nor a preset: name one of {', '.join(PRESET_NAMES)}"
    )


def test_file_that_is_no_toml(tmp_path: Path) -> None:
    broken = tmp_path / "c.toml"
    for content in (b"steps = ", b"\xff\xfe"):
        broken.write_bytes(content)
        with pytest.raises(ConfigError, match=f"^configuration {re.escape(str(broken))}: expected"):
            load_config(broken)
    with pytest.raises(ConfigError, match=r"expected a TOML file: .*directory"):
        load_config(tmp_path)


@pytest.mark.slow
def test_shown_configuration_is_complete_json() -> None:
    config = load_config(overrides=["steps=9", "model.tcn.kernel_size=5"])
    shown = json.loads(show_config(config))
    plain = json.loads(json.dumps(asdict(config)))
    assert shown == {**plain, "model": shown["model"]}
    assert shown["steps"] == 9
    model = build_model(config.family, config.model)
    assert shown["model"] == json.loads(json.dumps(model.config_dict()))
    assert (shown["model"]["kernel_size"], shown["model"]["tcn"]["kernel_size"]) == (160, 5)


@pytest.mark.slow
def test_shown_configuration_is_valid_input() -> None:
    config = load_config(overrides=["loss={si-sdr=1, stft=2}", "betas=[0.5, 0.6]"])
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
    with pytest.raises(ConfigError, match=r"^(training settings model|model setting)[^\n]*\Z"):
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


@pytest.mark.slow
def test_resumed_run_has_its_own_settings(run: Path) -> None:
    assert resumed_config(run) == STORED
    config = resumed_config(
        run, overrides=["steps=12", "schedule=cosine", "validation_rates=[4000]"]
    )
    assert config == replace(STORED, steps=12, schedule="cosine", validation_rates=(4000,))


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "key", "old", "new"),
    [
        ("seed=4", "seed", 3, 4),
        ("batch_size=7", "batch_size", 6, 7),
        ("loss.snr=2", "loss.snr", 1.0, 2.0),
        ("loss.l1=2", "loss.l1", None, 2.0),
        ("loss={snr=1, l1=2}", "loss.l1", None, 2.0),
        ("loss={l1=2}", "loss.l1", None, 2.0),
        ("floor_db=-20", "floor_db", -30.0, -20.0),
        ("window_seconds=0.1", "window_seconds", 0.064, 0.1),
        ("dissimilarity.alpha=0", "dissimilarity.alpha", 0.001, 0.0),
        ("mask_silent=true", "mask_silent", False, True),
        ("optimizer=radam-lookahead", "optimizer", "adamw", "radam-lookahead"),
        ("precision=bf16", "precision", "fp32", "bf16"),
        ("mixing.gain_db=1", "mixing.gain_db", 4.0, 1.0),
        ("model.stride=40", "model.stride", 80, 40),  # a default of the stored model
        ("model.tcn.num_layers=3", "model.tcn.num_layers", 2, 3),
    ],
)
def test_resumed_run_keeps_what_it_started_with(
    override: str, key: str, old: Any, new: Any, run: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        resumed_config(run, overrides=[override])
    assert str(raised.value) == (
        f"training setting {key}: the run in {run} has {old!r} and cannot go on with {new!r}: "
        "leave it out, or start a new run in another folder"
    )


def test_checkpoint_without_settings(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / CHECKPOINT_NAME, {"config": [1]})
    with pytest.raises(CheckpointError, match=r"holds no settings of a run$"):
        resumed_config(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"there is no run to resume: name its folder with --out, or "
    ):
        resumed_config(tmp_path / "elsewhere")


@pytest.mark.slow
def test_a_file_changes_the_preset_that_is_its_base(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "sfi-conv-tasnet-demo"\nsteps = 7\n[model.tcn]\nnum_layers = 3\n')
    config, base = load_config(file), load_config(Path("sfi-conv-tasnet-demo"))
    assert config == replace(
        base, steps=7, model={**base.model, "tcn": {**base.model["tcn"], "num_layers": 3}}
    )
    file.write_text('base = "sfi-conv-tasnet-demo"\n[loss]\nl1 = 1\n')
    assert load_config(file).loss == {"l1": 1.0}  # losses are replaced together, as without a base


@pytest.mark.parametrize("base", ['"mine"', "3", '"../unet"'])
def test_a_base_that_is_no_preset_is_refused(base: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f"base = {base}\n")
    with pytest.raises(ConfigError, match=r"base: expected the name of a preset .*unet"):
        load_config(file)


@pytest.mark.slow
def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "windows.toml"
    file.write_bytes(b'\xef\xbb\xbfbase = "unet"\r\nsteps = 7\r\n')
    assert load_config(file).steps == 7


def test_settings_of_the_model_are_those_of_the_initial_one(tmp_path: Path) -> None:
    tcn = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 2, "num_stacks": 1}
    initial = tmp_path / "initial.safetensors"
    save_model(build_model("sfi-conv-tasnet", {"num_filters": 16, "tcn": tcn}), initial)
    base = 'family = "sfi-conv-tasnet"\nvalidation_rates = [8000]\nmixing.sample_rates = [8000]\n'
    file = tmp_path / "run.toml"
    file.write_text(base, encoding="utf-8")
    model = load_config(file, init=str(initial)).model
    assert (model["num_filters"], model["tcn"]["bottleneck_channels"]) == (16, 8)
    changed = load_config(file, overrides=["model.num_filters=24"], init=str(initial)).model
    assert (changed["num_filters"], changed["tcn"]["bottleneck_channels"]) == (24, 8)
    own = {"num_filters": 8, "tcn": tcn}
    text = ", ".join(f"{name} = {value}" for name, value in tcn.items())
    file.write_text(f"{base}model = {{ num_filters = 8, tcn = {{ {text} }} }}", encoding="utf-8")
    assert load_config(file, init=str(initial)).model == own


@pytest.mark.slow
def test_loading_settings_imports_no_computer_algebra() -> None:
    """PyTorch's meta device would, to count weights: it takes longer than all else at the start."""
    code = (
        "import sys; from sfisep_core.training.config_loading import load_config; load_config(); "
        "sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
