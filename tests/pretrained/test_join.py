"""Cascades in files: contained, linked, and links that lead nowhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.cascade import Cascade
from sfisep_core.models.ensemble import Ensemble
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.description import read_description
from sfisep_core.pretrained.details import show_model
from sfisep_core.pretrained.identity import identify_model
from sfisep_core.pretrained.join import average_models, join_models, split_model
from sfisep_core.pretrained.model_files import load_model, save_model
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import SeparationSettings

VOICE: dict[str, Any] = {
    "sources": ["vocals", "accompaniment"],
    "masks": "complement",
    "network": {"channels": [8, 16, 32]},
    "patch_frames": 64,
    "patch_overlap": 14,
}
JOINT = {"masks": "joint"}
TCN = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 2, "norm": "batch"}
REST: dict[str, Any] = {
    "num_filters": 24,
    "trunk": "shared",
    "mask": "free",
    "gain_rule": "mixture-consistent",
    "normalizes_level": False,
    "tcn": TCN,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    voice, rest = build_model("spleeter", VOICE), build_model("sfi-conv-tasnet", REST)
    save_model(voice, tmp_path / "voice.safetensors", licence="MIT", storage="int8")
    save_model(rest, tmp_path / "rest.safetensors", licence="CC0")
    return tmp_path


def join(folder: Path, name: str = "both", **options: Any) -> Path:
    out = folder / f"{name}.safetensors"
    join_models(folder / "voice.safetensors", folder / "rest.safetensors", out, **options)
    return out


@pytest.mark.slow
@torch.no_grad()
def test_stages_take_what_is_left(folder: Path) -> None:
    model = load_model(join(folder))
    assert isinstance(model, Cascade)
    assert model.sources == ("vocals", "drums", "bass", "other")
    assert model.native_rate == 44100
    mixture = torch.randn(1, 2, 20_000)
    stems = model(mixture, sample_rate=22050)[0]
    voice, rest = (load_model(folder / f"{name}.safetensors") for name in ("voice", "rest"))
    vocals, left = voice(mixture, sample_rate=22050)[0]
    torch.testing.assert_close(stems[0], vocals)
    second = dict(zip(rest.sources, rest(left[None], sample_rate=22050)[0], strict=True))
    torch.testing.assert_close(stems[1], second["drums"])
    torch.testing.assert_close(stems[2], second["bass"])
    # What sounds like a voice to the second is not one to the first.
    torch.testing.assert_close(stems[3], second["other"] + second["vocals"])


def test_linked_and_contained_are_one_model(folder: Path) -> None:
    contained, linked = join(folder), join(folder, "linked", linked=True)
    assert linked.stat().st_size < 10_000
    one, other = load_model(contained), load_model(linked)
    assert one.config == other.config
    assert all(value.equal(other.state_dict()[name]) for name, value in one.state_dict().items())
    with safe_open(contained, framework="pt") as file:  # as they lay there
        name = "stages.0.network.networks.0.unet.middle.down.convolution.weight"
        assert file.get_slice(name).get_dtype() == "I8"
        assert json.loads(file.metadata()["sfisep"])["licence"] == "MIT; then CC0"
    identity = identify_model(str(linked))
    assert identity.sources == ("vocals", "drums", "bass", "other")
    assert identity.native_rate == 44100
    assert identity.sha256 != identify_model(str(contained)).sha256


@pytest.mark.slow
def test_same_files_same_bytes(folder: Path) -> None:
    for options in ({}, {"linked": True}):
        first, second = join(folder, "first", **options), join(folder, "second", **options)
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_cascades_can_be_joined_further(folder: Path) -> None:
    kit = build_model("sfi-conv-tasnet", {**REST, "sources": ["kick", "snare"]})
    save_model(kit, folder / "kit.safetensors")
    out = folder / "three.safetensors"
    keep = ("vocals", "bass", "other")
    join_models(join(folder, "linked", linked=True), folder / "kit.safetensors", out, keep=keep)
    model = load_model(out)
    assert model.sources == ("vocals", "bass", "other", "kick", "snare")
    mixture = torch.randn(1, 1, 4000)
    stems = model(mixture, sample_rate=8000)
    torch.testing.assert_close(stems.sum(dim=1), mixture, atol=1e-4, rtol=1e-4)
    # Without a source for the rest, what is left of the drums belongs to their parts.
    drums = load_model(folder / "linked.safetensors")(mixture, sample_rate=8000)[:, 1]
    torch.testing.assert_close(stems[:, 3:].sum(dim=1), drums, atol=1e-4, rtol=1e-4)


def test_stems_that_do_not_fit_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"to keep horns: expected sources of .*: vocals, accomp"):
        join(folder, keep=("horns",))
    voice = folder / "voice.safetensors"
    with pytest.raises(ConfigError, match=r"would keep all it has, vocals, accompaniment, and le"):
        join_models(voice, voice, folder / "out.safetensors", keep=("vocals", "accompaniment"))
    pair = folder / "pair.safetensors"
    save_model(build_model("sfi-conv-tasnet", {**REST, "sources": ["vocals", "horns"]}), pair)
    with pytest.raises(ConfigError, match=r"expected a source of .* that .* does not keep"):
        join_models(pair, pair, folder / "out.safetensors", keep=("vocals", "horns"))


def test_models_without_a_common_rate_are_refused(folder: Path) -> None:
    for name, rate in (("first", 8000), ("second", 16000)):
        settings = {"native_rate": rate, "sources": [name, "other"], "num_filters": 8, "tcn": TCN}
        save_model(build_model("conv-tasnet", settings), folder / f"{name}.safetensors")
    with pytest.raises(ConfigError, match="no common rate: 16000 and 8000 Hz"):
        join_models(
            folder / "first.safetensors", folder / "second.safetensors", folder / "out.safetensors"
        )


def test_links_are_checked(folder: Path) -> None:
    linked = join(folder, "linked", linked=True)
    save_model(build_model("sfi-conv-tasnet", REST), folder / "rest.safetensors")
    with pytest.raises(CheckpointError, match=r"rest\.safetensors: expected sha256 .*, found"):
        load_model(linked)
    (folder / "rest.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"rest\.safetensors cannot be read: No such file"):
        load_model(linked)
    (folder / "below").mkdir()
    with pytest.raises(ConfigError, match="expected it in the folder of the model"):
        join_models(
            folder / "voice.safetensors",
            folder / "voice.safetensors",
            folder / "below/out.safetensors",
            keep=("vocals",),
            linked=True,
        )


@pytest.mark.parametrize(
    "file", ["../voice.safetensors", "/etc/passwd", "a/b.safetensors", "voice", "-x.safetensors"]
)
def test_links_out_of_the_folder_are_refused(folder: Path, file: str) -> None:
    linked = join(folder, "linked", linked=True)
    with safe_open(linked, framework="pt") as opened:
        description = json.loads(opened.metadata()["sfisep"])
    description["parts"][0]["file"] = file
    save_file({}, linked, metadata={"sfisep": json.dumps(description)})
    with pytest.raises(CheckpointError, match="expected a name and a digest"):
        load_model(linked)


def test_links_to_a_linked_model_are_links_to_its_files(folder: Path) -> None:
    linked = join(folder, "linked", linked=True)
    kit = build_model("sfi-conv-tasnet", {**REST, "sources": ["kick", "snare"]})
    save_model(kit, folder / "kit.safetensors")
    keep = ("vocals", "bass", "other")
    for name, options in (("three", {}), ("three-linked", {"linked": True})):
        join_models(
            linked, folder / "kit.safetensors", folder / f"{name}.safetensors", keep=keep, **options
        )
    about = read_description(folder / "three-linked.safetensors")
    files = [part.file for part in about.parts]
    assert files == ["voice.safetensors", "rest.safetensors", "kit.safetensors"]
    # The names of the models, not those of the files that joined some of them.
    said = "(voice for vocals, then rest) for vocals, bass, other, then kit"
    assert about.training["description"] == said
    linked.unlink()
    one, other = (load_model(folder / f"{name}.safetensors") for name in ("three", "three-linked"))
    assert all(value.equal(other.state_dict()[name]) for name, value in one.state_dict().items())


def test_what_a_model_is_made_of_is_not_replaced(folder: Path) -> None:
    voice, rest = folder / "voice.safetensors", folder / "rest.safetensors"
    linked = join(folder, "linked", linked=True)
    before = {path: path.read_bytes() for path in (voice, rest, linked)}
    for out in (voice, rest):
        for is_linked in (False, True):
            with pytest.raises(ConfigError, match=r"would replace .*, of which it is made"):
                join_models(voice, rest, out, linked=is_linked)
            with pytest.raises(ConfigError, match=r"would replace .*, of which it is made"):
                average_models([voice, rest], out, linked=is_linked)
    # Nor what a linked model has its weights in.
    with pytest.raises(ConfigError, match=r"would replace .*rest\.safetensors"):
        average_models([linked, linked], rest)
    assert {path: path.read_bytes() for path in before} == before


def test_a_stage_without_its_source_is_refused() -> None:
    stages = [
        {"family": "sfi-conv-tasnet", "config": REST, "keep": ["vocals", "horns"]},
        {"family": "sfi-conv-tasnet", "config": REST, "keep": ["drums"]},
    ]
    with pytest.raises(ConfigError, match="stage 1 is to keep horns: it is a sfi-conv-tasnet"):
        build_model("cascade", {"sources": ["vocals", "horns", "drums"], "stages": stages})
    with pytest.raises(ConfigError, match="each of vocals, drums to be kept by one stage"):
        build_model("cascade", {"sources": ["vocals", "drums"], "stages": stages})
    with pytest.raises(ConfigError, match="expected 2 to 8 stages, got 1"):
        build_model("cascade", {"sources": ["vocals", "horns"], "stages": stages[:1]})


@torch.no_grad()
def test_stems_are_weighted_means(folder: Path) -> None:
    """What the second model takes for a voice belongs to the rest."""
    torch.manual_seed(1)
    band = build_model("spleeter", {**VOICE, "sources": ["drums", "bass", "other"], **JOINT})
    save_model(band, folder / "band.safetensors")
    files = [folder / "band.safetensors", folder / "rest.safetensors"]
    for name, linked in (("mean", False), ("linked", True)):
        out = folder / f"{name}.safetensors"
        average_models(files, out, weights=(1, 3), linked=linked)
    model, linked_model = (
        load_model(folder / f"{name}.safetensors") for name in ("mean", "linked")
    )
    assert isinstance(model, Ensemble)
    assert model.sources == ("drums", "bass", "other")
    mixture = torch.randn(1, 2, 20_000)
    stems = model(mixture, sample_rate=22050)
    band, rest = (load_model(path)(mixture, sample_rate=22050) for path in files)
    expected = (band + 3 * rest[:, 1:]) / 4
    expected[:, 2] += 3 / 4 * rest[:, 0]
    torch.testing.assert_close(stems, expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(stems.sum(dim=1), mixture, atol=1e-5, rtol=1e-4)
    assert stems.equal(linked_model(mixture, sample_rate=22050))


def test_models_come_back_as_they_were(folder: Path) -> None:
    files = [folder / "voice.safetensors", folder / "rest.safetensors"]
    average_models([files[1], files[1]], folder / "mean.safetensors", linked=True)
    for linked in (False, True):
        join_models(
            files[0], folder / "mean.safetensors", folder / "all.safetensors", linked=linked
        )
        voice, mean = split_model(folder / "all.safetensors", folder / f"apart-{linked}")
        assert [voice.name, mean.name] == ["all-1.safetensors", "all-2.safetensors"]
        for found in (voice, *split_model(mean, mean.parent)):
            expected = files[0] if found == voice else files[1]
            about, before = read_description(found), read_description(expected)
            assert about.family == before.family
            assert (about.training, about.licence) == (before.training, before.licence)
            with safe_open(found, "pt") as one, safe_open(expected, "pt") as other:
                assert set(one.keys()) == set(other.keys())
                for name in one.keys():  # noqa: SIM118
                    assert one.get_tensor(name).equal(other.get_tensor(name))


def test_model_trained_as_a_whole_says_so_in_each_part(folder: Path) -> None:
    model, record = load_model(join(folder)), {"steps": 7}
    save_model(model, folder / "best.safetensors", training=record, licence="MIT")
    for file in split_model(folder / "best.safetensors", folder):
        about = read_description(file)
        assert (about.training, about.licence) == (record, "MIT")
    with pytest.raises(ConfigError, match="made of models, of family cascade or ensemble, got"):
        split_model(folder / "best-1.safetensors", folder)


@pytest.mark.parametrize("records", [[], [{}], 5, None, {"a": 1}, ["x", "y"]])
def test_odd_training_records_are_no_obstacle(folder: Path, records: object) -> None:
    odd = folder / "odd.safetensors"
    save_model(load_model(join(folder)), odd, training={"stages": records}, licence="MIT")
    for file in split_model(odd, folder / "parts"):
        assert read_description(file).licence == "MIT"
        load_model(file)


def test_files_that_exist_are_not_replaced(folder: Path) -> None:
    for name, number in (("voice", 1), ("rest", 2)):
        (folder / f"{name}.safetensors").rename(folder / f"both-{number}.safetensors")
    both = folder / "both.safetensors"
    join_models(folder / "both-1.safetensors", folder / "both-2.safetensors", both, linked=True)
    with pytest.raises(ConfigError, match=r"both-1\.safetensors exists already: choose another"):
        split_model(both, folder)
    load_model(both)
    parts = folder / "parts"
    parts.mkdir()
    (parts / "both-2.safetensors").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"both-2\.safetensors exists already"):
        split_model(both, parts)
    assert len(list(parts.iterdir())) == 1


def test_models_that_cannot_be_averaged_are_refused(folder: Path) -> None:
    voice, rest = folder / "voice.safetensors", folder / "rest.safetensors"
    out = folder / "out.safetensors"
    with pytest.raises(ConfigError, match="expected 2 weights, got 1"):
        average_models([voice, rest], out, weights=(1,))
    with pytest.raises(ConfigError, match="ensemble: expected 2 to 8 models, got 1"):
        average_models([voice], out)
    with pytest.raises(ConfigError, match=r"weight: expected .*, got -1"):
        average_models([voice, rest], out, weights=(1, -1))
    kit = build_model("sfi-conv-tasnet", {**REST, "sources": ["kick", "snare"]})
    save_model(kit, folder / "kit.safetensors")
    with pytest.raises(ConfigError, match="a common stem, got vocals, accompaniment; kick, snare"):
        average_models([voice, folder / "kit.safetensors"], out)
    for name in ("song.wav", "out"):
        with pytest.raises(ConfigError, match=r"expected a name that ends in \.safetensors"):
            average_models([voice, voice], folder / name)
        with pytest.raises(ConfigError, match=r"expected a name that ends in \.safetensors"):
            join_models(voice, rest, folder / name)
    save_model(build_model("sfi-conv-tasnet", {**REST, "sources": ["vocals", "other"]}), rest)
    # The mean of two estimates of vocals, which would otherwise get all of the mixture.
    with pytest.raises(ConfigError, match=r"ensemble of vocals: .* no place for accompaniment"):
        average_models([voice, rest], out)
    members = [{"family": "spleeter", "config": VOICE}, {"config": REST}]
    with pytest.raises(ConfigError, match="ensemble: expected bass of each model; model 1, spleet"):
        build_model("ensemble", {"sources": ["bass"], "members": members})
    assert not out.exists()


@pytest.mark.slow
def test_ensemble_as_a_stage_does_not_depend_on_segments(folder: Path) -> None:
    """Its models have segments of other lengths, and one hears channels in pairs."""
    torch.manual_seed(1)
    # Frames of all models start together every 10.24 s.
    patches = {**VOICE, "patch_overlap": 15}
    save_model(build_model("spleeter", patches), folder / "voice.safetensors")
    band = build_model("spleeter", {**patches, "sources": ["drums", "bass", "other"], **JOINT})
    save_model(band, folder / "band.safetensors", storage="int8")
    files = [folder / "rest.safetensors", folder / "band.safetensors"]
    average_models(files, folder / "mean.safetensors", weights=(2, 1), linked=True)
    out = folder / "all.safetensors"
    join_models(folder / "voice.safetensors", folder / "mean.safetensors", out, linked=True)
    assert show_model(str(out)).stages == (
        "vocals by spleeter (voice.safetensors)",
        "drums and bass and other by ensemble (rest.safetensors and band.safetensors)",
    )
    music = np.random.default_rng(0).normal(0, 0.1, (2, 35 * 44100)).astype(np.float32)
    whole, cut = (
        Separator(out, SeparationSettings(segment=segment), device="cpu").separate((music, 44100))
        for segment in (0, 5)
    )
    assert whole.stems.keys() == {"vocals", "drums", "bass", "other"}
    assert load_model(out).chunk_alignment(44100) == 451_584
    for name, stem in whole.stems.items():
        error = np.square(cut.stems[name] - stem).sum() / np.square(stem).sum()
        assert error < 1e-10  # 100 dB
    np.testing.assert_allclose(sum(whole.stems.values()), music, atol=1e-5)
