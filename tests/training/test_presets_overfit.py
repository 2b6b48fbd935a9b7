"""Every way of training that is offered learns: one batch, over and over."""

import shutil
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.training.config import PRESETS, TrainingConfig, load_config
from sfisep_core.training.loop import train
from tests.training.test_loop import events, losses

SECONDS = 1.0
LEARNT_DB = 3.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second for training: every excerpt is the whole of it."""
    folder = tmp_path_factory.mktemp("data")
    generate_demo_corpus(
        folder / "demo",
        num_train=1,
        num_valid=1,
        num_test=0,
        seconds=SECONDS,
        sample_rate=8000,
        seed=3,
    )
    return prepare_dataset(folder / "demo", folder / "prepared").folder


def one_batch(config: TrainingConfig, **changes: Any) -> TrainingConfig:
    mixing = replace(
        config.mixing,
        excerpt_seconds=SECONDS,
        remix_probability=0.0,
        random_channel_probability=0.0,
        gain_probability=0.0,
        flip_probability=0.0,
        mute_probability=0.0,
        shift_probability=0.0,
        speed_probability=0.0,
        equalizer_probability=0.0,
        lowpass_probability=0.0,
        sample_rates=(8000,),
    )
    settings: dict[str, Any] = {
        "mixing": mixing,
        "batch_size": 1,
        "warmup_steps": 0,
        "log_steps": 1,
        "epoch_steps": 10_000,
        "validation_rates": (8000,),
    }
    return replace(config, **{**settings, **changes})


def learnt_db(config: TrainingConfig, data: Path, out: Path) -> float:
    """Train; give by how much the loss fell, in dB a stem."""
    train(config, data=data, out=out, device="cpu")
    curve = losses(out)
    weight = sum(config.loss.values())
    return (curve[1] - min(curve[step] for step in range(len(curve) - 2, len(curve) + 1))) / weight


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_preset(preset: str, data: Path, tmp_path: Path) -> None:
    config = load_config(Path(preset))
    assert set(config.loss) <= {"snr", "si-sdr"}  # both in dB
    config = one_batch(config, steps=25, schedule="stable", decay_share=0.0)
    assert learnt_db(config, data, tmp_path) > LEARNT_DB


compiles = [
    pytest.mark.skipif(
        shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
        reason="torch.compile needs a C++ compiler and Python's headers",
    ),
    pytest.mark.filterwarnings("ignore"),  # of the compiler's own making
]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"precision": "bf16"}, id="bf16"),
        pytest.param({"precision": "fp16"}, id="fp16"),
        pytest.param({"batch_size": 2, "accumulation": 2}, id="accumulation"),
        pytest.param({"compile": True}, id="compile", marks=compiles),
        pytest.param({"optimizer": "radam-lookahead", "learning_rate": 2e-2}, id="radam"),
    ],
)
def test_way_of_training(changes: dict[str, Any], data: Path, tmp_path: Path) -> None:
    config = one_batch(load_config(Path("sfi-conv-tasnet-small")), steps=60, **changes)
    assert learnt_db(config, data, tmp_path) > LEARNT_DB


@pytest.mark.parametrize("norm", ["window", "frame", "global", "batch"])
def test_every_norm_in_16_bits(norm: str, data: Path, tmp_path: Path) -> None:
    config = load_config(
        Path("sfi-conv-tasnet-small"), overrides=[f"model.tcn.norm={norm}", "precision=fp16"]
    )
    train(one_batch(config, steps=3), data=data, out=tmp_path, device="cpu")
    assert sum(event["steps_not_finite"] for event in events(tmp_path, "train")) <= 2
