"""SCNet's published files: both layouts, by name over a loopback server, and damaged ones."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from sfisep_core.errors import CheckpointError
from sfisep_core.models.blocks.scnet_bands import SCNetNetworkConfig
from sfisep_core.models.scnet import SCNet
from sfisep_core.pretrained.archives import ARCHIVES
from sfisep_core.pretrained.details import show_model
from sfisep_core.pretrained.fetch import check_model, fetch_model
from sfisep_core.pretrained.identity import identify_model
from sfisep_core.pretrained.model_files import load_model
from sfisep_core.pretrained.registry import known_sources
from sfisep_core.pretrained.resolve import convert_checkpoint, resolve_model
from sfisep_core.pretrained.torch_layouts import PUBLISHED_SOURCES
from sfisep_core.pretrained.torch_models import load_torch_model
from tests.models.scnet_reference import PlainSCNet
from tests.pretrained.hub_server import Hub

pytestmark = pytest.mark.slow

# The depths of the published networks make their 372 tensors; the channels are few.
SIZE = SCNetNetworkConfig(channels=(4, 8, 8))
SOURCES = PUBLISHED_SOURCES["scnet"]
Change = Callable[[dict[str, Any]], object]


def published_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(PlainSCNet(SIZE, len(SOURCES)).state_dict())


LAYOUTS: dict[str, Change] = {
    "bare": lambda state: state,
    "best": lambda state: {"best_state": state},
    "best of several GPUs": lambda state: {
        "best_state": {f"module.{name}": value for name, value in state.items()}
    },
}


def published_file(path: Path, layout: str = "bare") -> Path:
    torch.save(LAYOUTS[layout](published_state()), path)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_both_layouts(layout: str, tmp_path: Path) -> None:
    path = published_file(tmp_path / "model.ckpt", layout)
    state = published_state()
    assert len(state) == 372
    model = resolve_model(path)
    assert isinstance(model, SCNet)
    assert (model.sources, model.native_rate) == (SOURCES, 44100)
    assert model.config.network == SIZE
    parts = torch.randn(1, 4, 2049, 6)
    plain = PlainSCNet(SIZE, 4)
    plain.load_state_dict(state)
    spectra = torch.complex(parts[:, 0::2].contiguous(), parts[:, 1::2].contiguous())
    expected = plain.eval()(parts).unflatten(2, (2, 2))
    found = torch.view_as_real(model.estimate(spectra)).movedim(-1, 3)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    identity = identify_model(str(path))
    assert (identity.family, identity.sources) == ("scnet", SOURCES)
    assert known_sources(str(path)) == ("vocals", "drums", "bass", "other")
    convert_checkpoint(path, tmp_path / "model.safetensors")
    converted = load_model(tmp_path / "model.safetensors")
    assert converted.config == model.config


@pytest.mark.parametrize("name", ["scnet", "scnet-large"])
def test_by_name(name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = published_file(tmp_path / "file.ckpt", "best").read_bytes()
    hub.plain["file.ckpt"] = content
    known = replace(
        ARCHIVES[name],
        address=f"{hub.address}/plain/file.ckpt",
        sha256=hashlib.sha256(content).hexdigest(),
    )
    monkeypatch.setitem(ARCHIVES, name, known)
    path = fetch_model(name)
    assert fetch_model(name) == path
    assert hub.count("plain") == 1
    check_model(name)
    model = resolve_model(name)
    assert isinstance(model, SCNet)
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["source_sha256"] == known.sha256
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(CheckpointError, match=f"model {name}"):
        check_model(name)


def test_another_file_is_not_kept(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.plain["file.ckpt"] = published_file(tmp_path / "file.ckpt").read_bytes()
    address = f"{hub.address}/plain/file.ckpt"
    monkeypatch.setitem(ARCHIVES, "scnet", replace(ARCHIVES["scnet"], address=address))
    with pytest.raises(CheckpointError, match=f"expected sha256 {ARCHIVES['scnet'].sha256}"):
        fetch_model("scnet")


def test_what_is_known() -> None:
    details = show_model("scnet")
    assert details.download_size == 42_434_986
    assert details.entry.licence == "MIT"
    assert "2026-07-17" in details.weights_licence
    assert "non-commercial" in details.weights_licence
    assert "9.03 dB" in details.score
    assert show_model("scnet-large").sha256.startswith("65900dfa")


def without(name: str) -> Change:
    return lambda state: state.pop(name)


def with_value(name: str, value: object) -> Change:
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("encoder.1.SDlayer.convs.0.weight"),
            "found no 'encoder.1.SDlayer.convs.0.weight'",
        ),
        (without("encoder.2.globalconv.bias"), "are not those of a published SCNet"),
        (with_value("extra", torch.zeros(1)), "are not those of a published SCNet"),
        (with_value("encoder.0.globalconv.bias", torch.zeros(5)), "not those of a published SCNet"),
        (
            with_value("encoder.0.globalconv.bias", torch.full((4,), torch.nan)),
            "holds values that are not finite",
        ),
        (with_value("decoder.2.1.convtrs.0.bias", torch.zeros(8)), "8 outputs, expected"),
        (with_value("encoder.0.globalconv.bias", "text"), "expected names and tensors"),
        (with_value("module.encoder.0.globalconv.bias", torch.zeros(4)), "each weight once"),
    ],
)
def test_other_weights_are_refused(change: Change, message: str, tmp_path: Path) -> None:
    state: dict[str, Any] = published_state()
    change(state)
    torch.save(state, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=message):
        load_torch_model(tmp_path / "model.ckpt")


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_code_in_a_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({**published_state(), "x": Hostile()}, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"names '(__builtin__|builtins)\.print'"):
        load_torch_model(tmp_path / "model.ckpt")
    assert capsys.readouterr().out == ""


def test_separate_writes_stems(tmp_path: Path) -> None:
    from sfisep_core import Separator

    path = published_file(tmp_path / "model.ckpt")
    mixture = np.random.default_rng(0).normal(0, 0.1, (2, 8000)).astype(np.float32)
    soundfile.write(tmp_path / "song.wav", mixture.T, 8000, subtype="FLOAT")
    result = Separator(path).separate(tmp_path / "song.wav")
    assert np.abs(sum(result.stems.values()) - mixture).max() < 1e-5
