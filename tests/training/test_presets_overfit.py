"""Every way of training that is offered learns: one batch, over and over."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.config_loading import load_config
from sfisep_core.training.loop import train
from sfisep_core.training.presets import list_presets
from tests.compiler import compiles
from tests.training.test_loop import events, losses

pytestmark = pytest.mark.slow

SECONDS = 0.25
LEARNT_DB = 3.0
LEARNT_SHARE = 0.8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of a second for training: every excerpt is the whole of it."""
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
    return prepare_dataset(
        PreparationRequest(source=folder / "demo", out=folder / "prepared")
    ).folder


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
        "seed": 1,  # with 0 rounding decides whether deepconvsep-lasagne learns in so few steps
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


# Networks of published sizes that take minutes for a few steps on a CPU; the demo presets of their
# families stand for them.
LARGE = {"unet", "cunet", "cunet-complex", "lasaft", "lasaft-large", "lightsaft", "lightsaft-large"}
LARGE |= {f"tfc-tdf-unet{size}" for size in ("", "-large", "-17")}
LARGE |= {"cascade", "cascade-conv-tasnet", "scnet", "scnet-large"}
LARGE |= {"tfc-unet", "tdf-unet", "tdc-unet", "conv-tasnet", "sepformer", "sfsrnet"}
LARGE |= {"conv-tasnet-libri2mix", "sepformer-wsj0-2mix", "sepformer-wsj0-2mix-dm"}
# It hears only what is above 8 kHz, and needs a separator: see the end-to-end test of its own.
ELSEWHERE = {"super-resolve"}
# A network that is told the source has to learn first to tell conditions apart.
STEPS = {"cunet-demo": 80, "deepconvsep-keras": 60, "lasaft-demo": 40}


@pytest.mark.parametrize("preset", sorted(set(list_presets()) - LARGE - ELSEWHERE))
def test_preset(preset: str, data: Path, tmp_path: Path) -> None:
    config = load_config(Path(preset))
    if config.family == "sfi-conv-tasnet":  # less deep, for speed
        config = load_config(Path(preset), overrides=["model.tcn.num_layers=2"])
    config = one_batch(
        config, steps=STEPS.get(preset, 25), schedule="stable", decay_share=0.0, ema_decay=0.0
    )
    if set(config.loss) <= {"snr", "si-sdr"}:  # both in dB
        assert learnt_db(config, data, tmp_path) > LEARNT_DB
    else:
        train(config, data=data, out=tmp_path, device="cpu")
        curve = losses(tmp_path)
        assert curve[len(curve)] < LEARNT_SHARE * curve[1]


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
    layers = ["model.tcn.num_layers=1", "model.tcn.num_stacks=1"]  # each is compiled by itself
    small = load_config(Path("sfi-conv-tasnet-demo"), overrides=layers)
    config = one_batch(small, **{"steps": 30, "learning_rate": 1e-2, **changes})
    assert learnt_db(config, data, tmp_path) > LEARNT_DB


@pytest.mark.parametrize("norm", ["window", "frame", "global", "batch"])
def test_every_norm_in_16_bits(norm: str, data: Path, tmp_path: Path) -> None:
    config = load_config(
        Path("sfi-conv-tasnet-demo"), overrides=[f"model.tcn.norm={norm}", "precision=fp16"]
    )
    train(one_batch(config, steps=3), data=data, out=tmp_path, device="cpu")
    assert sum(event["steps_not_finite"] for event in events(tmp_path, "train")) <= 2
