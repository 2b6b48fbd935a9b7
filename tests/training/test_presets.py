from pathlib import Path

import pytest

from sfisep_core.data.mixing import MixingConfig
from sfisep_core.models.registry import build_model
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNetConfig
from sfisep_core.training.config import PRESETS, TrainingConfig, load_config

PAPER = ["sfi-conv-tasnet-fd-mgf", "sfi-conv-tasnet-td-mgf", "sfi-conv-tasnet-td-mpgtf"]
SIZES = {
    "default": 632_735,
    "sfi-conv-tasnet-small": 44_109,
    "sfi-conv-tasnet-fd-mgf": 4_315_628,
    "sfi-conv-tasnet-td-mgf": 4_315_628,
    "sfi-conv-tasnet-td-mpgtf": 4_313_620,
}


def test_every_preset_is_tested() -> None:
    assert {path.stem for path in PRESETS.glob("*.toml")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_preset_builds_a_model_of_its_size(name: str) -> None:
    config = load_config(Path(name))
    assert config == load_config(PRESETS / f"{name}.toml")
    model = build_model(config.family, config.model)
    assert model.sources == ("vocals", "drums", "bass", "other")
    assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[name]


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets(name: str) -> None:
    config = load_config(Path(name))
    assert config == TrainingConfig(
        model=config.model,
        mixing=MixingConfig(
            excerpt_seconds=8.0,
            remix_probability=0.5,
            active_probability=0.0,
            gain_db=2.2,
            flip_probability=0.0,
            speed_probability=0.0,
            sample_rates=(32000,),
            lowpass_probability=0.0,
        ),
        steps=250 * 1250,
        epoch_steps=1250,
        batch_size=12,
        loss={"si-sdr": 4.0},
        mask_silent=True,
        optimizer="radam-lookahead",
        learning_rate=1e-3,
        betas=(0.95, 0.999),
        epsilon=1e-5,
        weight_decay=5e-4,
        lookahead_steps=6,
        lookahead_alpha=0.5,
        schedule="cosine-restarts",
        warmup_steps=0,
        restart_steps=200_000,
        restart_factor=0.85,
        clip_norm=5.0,
        ema_decay=0.0,
        validation_rates=(32000,),
        validation_seconds=0.0,
    )
    assert config.mixing.stored_seconds == 8.0
    model = build_model(config.family, config.model)
    # The model's own defaults are the paper's FD-MGF.
    design, kind = name.split("-")[-2:]
    assert model.config == SFIConvTasNetConfig(
        design="frequency" if design == "fd" else "time",
        filters="modulated-gaussian" if kind == "mgf" else "multi-phase-gammatone",
    )
    assert (model.gain_rule, model.normalizes_level) == ("least-squares", True)


def test_default_preset_keeps_the_values_of_the_bundled_model() -> None:
    config = load_config()
    assert config == TrainingConfig(
        model=config.model,
        mixing=MixingConfig(
            excerpt_seconds=3.0,
            channels=1,
            remix_probability=0.6,
            active_probability=0.8,
            random_channel_probability=1.0,
            gain_probability=1.0,
            gain_db=4.0,
            flip_probability=0.5,
            mute_probability=0.1,
            shift_probability=0.0,
            speed_probability=1.0,
            speeds=(0.8, 0.9, 1.0, 1.0, 1.1, 1.25),
            equalizer_probability=0.0,
            sample_rates=(8000, 11025, 16000, 22050, 24000, 32000),
            lowpass_probability=0.1,
        ),
        steps=4200,
        batch_size=6,
        loss={"si-sdr": 1.0},
        floor_db=-30.0,
        learning_rate=1.5e-3,
        weight_decay=1e-2,
        warmup_steps=100,
        decay_share=0.4,
        ema_decay=0.999,
        validation_rates=(8000, 16000, 32000),
    )
