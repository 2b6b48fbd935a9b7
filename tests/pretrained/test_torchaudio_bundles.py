"""Weights of torchaudio's bundles: by name over a loopback server, and damaged ones."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
from torch import Tensor, nn

from sfisep_core.audio.stores import MemoryStore, read_all
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.conv_tasnet import ConvTasNet, ConvTasNetConfig
from sfisep_core.models.hdemucs import HDemucs, HDemucsConfig
from sfisep_core.pretrained.archives import ARCHIVES
from sfisep_core.pretrained.details import show_model
from sfisep_core.pretrained.fetch import check_model, fetch_model
from sfisep_core.pretrained.identity import identify_model
from sfisep_core.pretrained.model_files import load_model
from sfisep_core.pretrained.registry import known_sources
from sfisep_core.pretrained.resolve import convert_checkpoint, resolve_model
from sfisep_core.pretrained.torch_models import load_torch_model
from sfisep_core.separation.methods import separate_signal
from sfisep_core.separation.settings import SeparationSettings
from sfisep_core.training.config_loading import load_config
from tests.models.parity import difference
from tests.pretrained.hub_server import Hub

pytestmark = pytest.mark.slow

NAMES = ("hdemucs", "conv-tasnet-libri2mix")
DEMUCS_SOURCES = ["drums", "bass", "other", "vocals"]


def published(name: str) -> nn.Module:
    """Build torchaudio's own module with random weights; Hybrid Demucs with few channels."""
    torch.manual_seed(0)
    module: nn.Module
    if name == "hdemucs":
        module = torchaudio.models.HDemucs(DEMUCS_SOURCES, channels=4, nfft=4096, depth=6)
    else:
        module = torchaudio.models.conv_tasnet_base(num_sources=2)
    return module.eval()


def published_file(path: Path, name: str) -> Path:
    torch.save(published(name).state_dict(), path)
    return path


def serve(
    name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch, folder: Path, *, known: bool
) -> str:
    """Serve a file with random weights as the published one; return its digest."""
    content = published_file(folder / "file.pt", name).read_bytes()
    hub.plain["file.pt"] = content
    digest = hashlib.sha256(content).hexdigest()
    entry = replace(
        ARCHIVES[name],
        address=f"{hub.address}/plain/file.pt",
        sha256=digest if known else None,
    )
    monkeypatch.setitem(ARCHIVES, name, entry)
    return digest


def as_in_the_tutorial(network: nn.Module, mixture: Tensor) -> Tensor:
    """Separate (2, time) as torchaudio's tutorial for Hybrid Demucs does, in one segment."""
    reference = mixture.mean(0)
    normalised = (mixture - reference.mean()) / reference.std()
    stems: Tensor = network(normalised[None])[0]
    return stems * reference.std() + reference.mean()


@pytest.mark.parametrize("length", [1, 1000, 5000, 44100])
@torch.no_grad()
def test_hdemucs_gives_the_stems_of_the_tutorial(length: int, tmp_path: Path) -> None:
    model = resolve_model(published_file(tmp_path / "file.pt", "hdemucs"))
    assert isinstance(model, HDemucs)
    assert (model.sources, model.native_rate) == (tuple(DEMUCS_SOURCES), 44100)
    rule = model.segments
    assert (rule.seconds, rule.context_seconds, rule.chunk_invariant) == (10, 0.5, False)
    mixture = 0.01 * torch.randn(2, length) + 0.001
    stems = model(mixture[None], sample_rate=44100)[0]
    assert difference(stems.sum(0), mixture) < 1e-5
    if length > 2560:  # the module takes no shorter ones at all lengths
        model.gain_rule = "none"
        stems = model(mixture[None], sample_rate=44100)[0]
        assert difference(stems, as_in_the_tutorial(published("hdemucs"), mixture)) < 1e-5


@torch.no_grad()
def test_conv_tasnet_gives_the_speakers_of_the_bundle(tmp_path: Path) -> None:
    model = resolve_model(published_file(tmp_path / "file.pt", "conv-tasnet-libri2mix"))
    assert isinstance(model, ConvTasNet)
    preset = load_config(Path("conv-tasnet-libri2mix")).model
    settings = asdict(ConvTasNetConfig(**{"sources": ("s1", "s2"), "native_rate": 8000}))
    assert {k: preset[k] for k in ("mask", "gain_rule", "segment_seconds")} == {
        k: model.config_dict()[k] for k in ("mask", "gain_rule", "segment_seconds")
    }
    assert model.config_dict()["tcn"] == settings["tcn"]
    mixture = torch.randn(1, 1, 8000)
    expected = published("conv-tasnet-libri2mix")(mixture)
    assert difference(model(mixture, sample_rate=8000)[:, :, 0], expected) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_by_name(name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    digest = serve(name, hub, monkeypatch, tmp_path, known=True)
    path = fetch_model(name)
    assert fetch_model(name) == path
    assert hub.count("plain") == 1
    check_model(name)
    identity = identify_model(name)
    assert (identity.family, identity.sources) == (ARCHIVES[name].family, ARCHIVES[name].sources)
    assert identity.native_rate == ARCHIVES[name].native_rate
    expected, model = published(name).state_dict(), resolve_model(name)
    assert sorted(w.sum().item() for w in model.state_dict().values()) == sorted(
        w.sum().item() for w in expected.values()
    )
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["source_sha256"] == digest
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(CheckpointError, match=f"model {name}"):
        check_model(name)


def test_another_file_is_not_kept(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = ARCHIVES["hdemucs"].sha256
    serve("hdemucs", hub, monkeypatch, tmp_path, known=True)
    monkeypatch.setitem(ARCHIVES, "hdemucs", replace(ARCHIVES["hdemucs"], sha256=right))
    with pytest.raises(CheckpointError, match=f"expected sha256 {right}"):
        fetch_model("hdemucs")


def test_the_first_download_is_kept_where_no_digest_is_known(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "conv-tasnet-libri2mix"
    assert ARCHIVES[name].sha256 is None
    digest = serve(name, hub, monkeypatch, tmp_path, known=False)
    with pytest.raises(CheckpointError, match=f"expected sha256 {'0' * 64}, found {digest}"):
        fetch_model(name, sha256="0" * 64)
    with caplog.at_level(logging.WARNING):
        path = fetch_model(name)
    assert f"without a sha256 to check it against; from now on it must be {digest}" in caplog.text
    path.write_bytes(b"damaged")
    hub.plain["file.pt"] += b"\0"
    with pytest.raises(CheckpointError, match=f"expected sha256 {digest}"):
        fetch_model(name, mend=True)


def test_other_rates_by_resampling(tmp_path: Path) -> None:
    model = load_torch_model(published_file(tmp_path / "file.pt", "hdemucs"))
    mixture = torch.randn(2, 12000).numpy()
    with pytest.raises(ConfigError, match="works at 44100 Hz only; pass --method resample"):
        separate_signal(model, MemoryStore(mixture), sample_rate=16000)
    stems = read_all(
        separate_signal(
            model,
            MemoryStore(mixture),
            sample_rate=16000,
            settings=SeparationSettings(method="resample"),
        )
    )
    assert stems.shape == (4, 2, 12000)
    assert difference(torch.from_numpy(stems.sum(0)), torch.from_numpy(mixture)) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_what_is_known(name: str) -> None:
    details = show_model(name)
    assert details.entry.licence == "unstated"
    assert details.code_licence == "BSD-2-Clause"
    assert "without terms" in details.weights_licence
    assert details.download_size == {"hdemucs": 334_697_255}.get(name, 20_049_107)
    assert details.address.startswith("https://download.pytorch.org/torchaudio/models/")
    assert details.training_data
    assert details.score
    assert "random weights, one thread" in details.cost


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_known_before_a_file_is_loaded(name: str, tmp_path: Path) -> None:
    path = published_file(tmp_path / "file.pt", name)
    expected = ("s1", "s2") if "conv" in name else ("vocals", "drums", "bass", "other")
    assert known_sources(str(path)) == known_sources(name) == expected
    convert_checkpoint(path, tmp_path / "model.safetensors")
    assert type(load_model(tmp_path / "model.safetensors")) is type(load_torch_model(path))


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "hdemucs",
            lambda state: state.pop("freq_encoder.0.conv.bias"),
            "found no 'freq_encoder.0.conv.bias'",
        ),
        (
            "hdemucs",
            lambda state: state.update({"freq_encoder.0.conv.bias": torch.zeros(3)}),
            "expected 4 to 1024",
        ),
        (
            "hdemucs",
            lambda state: state.pop("freq_decoder.0.rewrite.bias"),
            "are not those of a published Hybrid Demucs",
        ),
        (
            "conv-tasnet-libri2mix",
            lambda state: state.update({"encoder.weight": torch.zeros(512, 1, 20)}),
            "are not those of a published Conv-TasNet",
        ),
        (
            "conv-tasnet-libri2mix",
            lambda state: state.update({"encoder.weight": torch.full((512, 1, 16), torch.nan)}),
            "holds values that are not finite",
        ),
    ],
)
def test_other_weights_are_refused(name: str, change: Change, message: str, tmp_path: Path) -> None:
    state: dict[str, Any] = dict(published(name).state_dict())
    change(state)
    torch.save(state, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=message):
        load_torch_model(tmp_path / "file.pt")


def test_settings_have_the_published_size() -> None:
    assert HDemucsConfig().channels == 48
