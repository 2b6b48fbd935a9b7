"""The bundled models: what they are made of, how large they are, and what they do."""

import shutil
from pathlib import Path

import pytest
import torch

from sfisep_core.errors import CheckpointError
from sfisep_core.models.cascade import Cascade
from sfisep_core.models.spleeter import Spleeter
from sfisep_core.pretrained.description import read_description
from sfisep_core.pretrained.details import show_model
from sfisep_core.pretrained.fetch import check_model
from sfisep_core.pretrained.join import average_models, join_models
from sfisep_core.pretrained.model_files import load_model, save_model
from sfisep_core.pretrained.registry import BUNDLED, BUNDLED_SHA256, list_models

VOICE, BAND = BUNDLED["spleeter-vocals"], BUNDLED["instrumental-unet"]
SMALL = BUNDLED["instrumental-conv-tasnet"]
PARTS = ("spleeter-vocals", "instrumental-unet", "instrumental-conv-tasnet")


def test_bundle_is_small_and_has_its_notices() -> None:
    sizes = [file.stat().st_size for file in BUNDLED["default"].parent.iterdir()]
    assert sum(sizes) <= 20e6
    notice = (BUNDLED["default"].parent / "NOTICE").read_text(encoding="utf-8")
    assert "Copyright (c) 2019-present, Deezer SA." in notice
    assert "Journal of Open Source Software" in notice
    entry = next(entry for entry in list_models() if entry.name == "default")
    files = [BUNDLED[name].stat().st_size for name in ("default", *PARTS)]
    assert entry.size == sum(files)


def test_voice_network_is_what_convert_writes(tmp_path: Path) -> None:
    """Bit for bit: docs/how-to/train-the-default-model.md gives the digest of its file."""
    about, again = read_description(VOICE), tmp_path / "again.safetensors"
    model = load_model(VOICE)
    save_model(model, again, training=about.training, licence=about.licence, storage="int6")
    assert again.read_bytes() == VOICE.read_bytes()
    recipe = Path(__file__).parents[2] / "docs/how-to/train-the-default-model.md"
    assert BUNDLED_SHA256["spleeter-vocals"] in recipe.read_text("utf-8")


@pytest.mark.slow
def test_default_is_its_three_parts(tmp_path: Path) -> None:
    """As docs/how-to/train-the-default-model.md makes it."""
    voice, band, small = (Path(shutil.copy(path, tmp_path)) for path in (VOICE, BAND, SMALL))
    mean, again = tmp_path / "drums-bass-other.safetensors", tmp_path / "default.safetensors"
    average_models([small, band], mean, linked=True)
    join_models(voice, mean, again, linked=True)
    made, bundled = read_description(again), read_description(BUNDLED["default"])
    assert made.parts == bundled.parts
    assert (made.training, made.licence) == (bundled.training, bundled.licence)
    # A file does not name settings that came after it; they have their defaults.
    assert load_model(again).config_dict() == load_model(BUNDLED["default"]).config_dict()
    details = show_model("default")
    assert details.stages == (
        "vocals by spleeter (spleeter-vocals.safetensors)",
        "drums and bass and other by ensemble (instrumental-conv-tasnet.safetensors and "
        "instrumental-unet.safetensors)",
    )
    assert details.weights_licence.count("\n") == 2  # each of the three once
    assert "Deezer" in show_model("spleeter-vocals").training_data
    assert "Deezer" in show_model("instrumental-unet").weights_licence


def test_damage_to_a_part_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in BUNDLED.values():
        shutil.copy(path, tmp_path)
    monkeypatch.setitem(BUNDLED, "default", tmp_path / "default.safetensors")
    check_model("default")
    with (tmp_path / VOICE.name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(CheckpointError, match=r"spleeter-vocals\.safetensors: expected sha256"):
        check_model("default")


@pytest.mark.slow
@torch.no_grad()
def test_default_takes_the_voice_first() -> None:
    model, voice = load_model(BUNDLED["default"]), load_model(VOICE)
    assert isinstance(model, Cascade)
    assert isinstance(voice, Spleeter)
    assert sum(p.numel() for p in voice.parameters()) == 9_822_725
    assert model.segments.chunk_invariant
    assert model.gain_rule == "mixture-consistent"
    assert model.chunk_alignment(44100) == 451_584  # 10.24 s: patches, and frames of the second
    mixture = 0.1 * torch.randn(1, 2, 30_000, generator=torch.Generator().manual_seed(0))
    stems = model(mixture, sample_rate=16000)
    vocals = voice(mixture, sample_rate=16000)[:, 0]
    torch.testing.assert_close(stems[:, 0], vocals)
    rest = mixture - vocals
    band, small = (load_model(path)(rest, sample_rate=16000) for path in (BAND, SMALL))
    torch.testing.assert_close(stems[:, 1:], (band + small) / 2, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(stems.sum(dim=1), mixture, atol=1e-6, rtol=1e-4)
