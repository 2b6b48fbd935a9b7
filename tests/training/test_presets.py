from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from sfisep_core.data.mixing_config import MixingConfig
from sfisep_core.models.registry import build_model
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNetConfig
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.config_files import read_settings
from sfisep_core.training.config_loading import load_config
from sfisep_core.training.presets import PRESETS, list_presets

pytestmark = pytest.mark.slow

PAPER = ["sfi-conv-tasnet-fd-mgf", "sfi-conv-tasnet-td-mgf", "sfi-conv-tasnet-td-mpgtf"]
SIZES = {
    "sfi-conv-tasnet-small": 632_735,
    "sfi-conv-tasnet-demo": 44_109,
    "sfi-conv-tasnet-fd-mgf": 4_315_628,
    "sfi-conv-tasnet-td-mgf": 4_315_628,
    "sfi-conv-tasnet-td-mpgtf": 4_313_620,
    "deepconvsep": 314_422,
    "deepconvsep-lasagne": 578_682,
    "deepconvsep-keras": 489_142,
    "deepconvsep-stereo": 678_536,
    "deepconvsep-demo": 301_622,
    "unet": 4 * 9_823_315,
    "cunet": 9_844_847,
    "cunet-complex": 12_159_875,
    "unet-demo": 606_124,
    "cunet-demo": 170_059,
    "tfc-tdf-unet": 4 * 987_476,
    "tfc-tdf-unet-large": 4 * 2_232_132,
    "tfc-tdf-unet-17": 4 * 1_930_840,
    "tfc-unet": 4 * 639_316,
    "tdf-unet": 4 * 359_492,
    "tdc-unet": 4 * 217_684,
    "tfc-tdf-unet-demo": 394_280,
    "lasaft": 8_424_028,
    "lasaft-large": 31_541_908,
    "lightsaft": 2_374_236,
    "lightsaft-large": 7_142_036,
    "lasaft-demo": 266_670,
    # Two of Spleeter's networks, the second with 16 channels and 6 outputs at its end.
    "cascade": 9_822_725 + 4_920_694,
    "cascade-conv-tasnet": 9_822_725 + 632_735,
    "scnet": 10_578_768,
    "scnet-large": 42_181_232,
    "scnet-demo": 485_784,
    # Of two sources 4,984,881 and 25,679,361: two more take 512 (128 + 1) and 256 (256 + 1) each.
    "conv-tasnet": 4_984_881 + 2 * 66_048,
    "conv-tasnet-demo": 119_693,
    "sepformer": 25_679_361 + 2 * 65_792,
    "sepformer-demo": 102_785,
    "sfsrnet": 58_521_221,
    "sfsrnet-demo": 330_249,
    "super-resolve": 4_347_256,
    "conv-tasnet-libri2mix": 4_984_881,
    "sepformer-wsj0-2mix": 25_679_361,
    "sepformer-wsj0-2mix-dm": 25_679_361,
}


@cache  # loading tries the model, which takes seconds for the largest
def loaded(name: str) -> TrainingConfig:
    return load_config(Path(name))


def test_every_preset_is_tested() -> None:
    assert set(list_presets()) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_preset_builds_a_model_of_its_size(name: str) -> None:
    assert read_settings(Path(name)) == read_settings(PRESETS / f"{name}.toml")
    config = loaded(name)
    with torch.device("meta"):  # shapes alone: nothing is drawn for the largest of them
        model = build_model(config.family, config.model)
    assert model.sources == (
        ("s1", "s2") if "2mix" in name else ("vocals", "drums", "bass", "other")
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[name]


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets(name: str) -> None:
    config = loaded(name)
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
    with torch.device("meta"):
        model = build_model(config.family, config.model)
    # The model's own defaults are the paper's FD-MGF.
    design, kind = name.split("-")[-2:]
    assert model.config == SFIConvTasNetConfig(
        design="frequency" if design == "fd" else "time",
        filters="modulated-gaussian" if kind == "mgf" else "multi-phase-gammatone",
    )
    assert (model.gain_rule, model.normalizes_level) == ("least-squares", True)


@pytest.mark.parametrize(
    ("name", "seconds", "batch_size", "learning_rate", "speed"),
    [
        ("conv-tasnet-libri2mix", 3.0, 12, 1e-3, 0.0),
        ("sepformer-wsj0-2mix", 4.0, 1, 1.5e-4, 1.0),
    ],
)
def test_presets_for_speakers(
    name: str, seconds: float, batch_size: int, learning_rate: float, speed: float
) -> None:
    config = loaded(name)
    assert (config.loss, config.batch_size, config.clip_norm) == ({"pit-si-snr": 1}, batch_size, 5)
    assert (config.learning_rate, config.weight_decay) == (learning_rate, 0)
    assert config.mixing == MixingConfig(
        excerpt_seconds=seconds,
        remix_probability=0,
        gain_probability=0,
        flip_probability=0,
        speed_probability=speed,
        speeds=(0.95, 1.0, 1.05) if speed else MixingConfig().speeds,
        sample_rates=(8000,),
        lowpass_probability=0,
    )


def test_dynamic_mixing_changes_nothing_else() -> None:
    fixed, dynamic = (loaded(f"sepformer-wsj0-2mix{end}") for end in ("", "-dm"))
    mixing = replace(fixed.mixing, remix_probability=1, active_probability=1, dynamic_levels=True)
    assert dynamic == replace(fixed, mixing=mixing)


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
