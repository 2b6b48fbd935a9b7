"""What a model is, without its weights."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

from sfisep_core.errors import CheckpointError
from sfisep_core.models.registry import FAMILIES, build_model, describe_model
from sfisep_core.pretrained import identity as identity_module
from sfisep_core.pretrained import resolve
from sfisep_core.pretrained.identity import check_unchanged, identify_model, load_identified
from sfisep_core.pretrained.model_files import save_model
from sfisep_core.pretrained.registry import BUNDLED, BUNDLED_SHA256


def write_model(path: Path, *, seed: int = 0, native_rate: int = 6000) -> None:
    sizes = {"bottleneck_channels": 4, "hidden_channels": 4, "num_layers": 1, "num_stacks": 1}
    settings = {
        "sources": ["speech", "noise"],
        "native_rate": native_rate,
        "highest_hz": 3000.0,
        "kernel_size": 60,
        "stride": 30,
        "num_filters": 8,
        "num_centers": 4,
        "tcn": {**sizes, "norm": "frame"},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_model(build_model("sfi-conv-tasnet", settings), path)


def test_bundled_model_is_identified_without_loading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(resolve, "load_model", refuse)
    found = identify_model("default")
    assert (found.name, found.label, found.sha256) == (
        *("default", "default"),
        BUNDLED_SHA256["default"],
    )
    assert found.family == "cascade"
    assert set(found.sources) == {"vocals", "drums", "bass", "other"}


def test_file_is_identified_as_what_it_loads_as(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    write_model(path)
    found = identify_model(str(path))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.label, found.sources, found.native_rate) == (
        *(f"{tmp_path.name}-mine", ("speech", "noise"), 6000),
    )
    loaded = load_identified(found)
    assert (loaded.family, loaded.sources, loaded.native_rate) == (
        *(found.family, found.sources, found.native_rate),
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_description_of_every_family_is_that_of_its_model(family: str) -> None:
    model = build_model(family, {})
    assert describe_model(family, model.config_dict()) == (model.sources, model.native_rate)


def test_file_is_read_once_as_long_as_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    write_model(path)
    read = []
    digest = identity_module.file_sha256
    monkeypatch.setattr(
        identity_module, "file_sha256", lambda path: read.append(path) or digest(path)
    )
    first = identify_model(str(path))
    assert identify_model(str(path)) == first
    assert len(read) == 1
    check_unchanged(first)
    # A file of the same size and, as far as one can set it, of the same time.
    times = path.stat()
    write_model(path, seed=1)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert identify_model(str(path)).sha256 != first.sha256
    for act in (check_unchanged, load_identified):
        with pytest.raises(CheckpointError, match="was replaced during the run"):
            act(first)


def test_one_file_has_each_name_that_it_is_asked_for_by(tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(BUNDLED["sfi-conv-tasnet-small"].read_bytes())
    by_name, by_path = (
        identify_model("sfi-conv-tasnet-small"),
        identify_model(str(BUNDLED["sfi-conv-tasnet-small"])),
    )
    assert (by_name.name, by_path.name) == (
        "sfi-conv-tasnet-small",
        str(BUNDLED["sfi-conv-tasnet-small"]),
    )
    assert by_name.sha256 == by_path.sha256 == identify_model(str(copy)).sha256


@pytest.mark.parametrize("content", [b"", b"RIFF", b"PK\x03\x04"])
def test_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors"):
        identify_model(str(tmp_path / "bad.safetensors"))


def test_unknown_name_is_refused() -> None:
    with pytest.raises(CheckpointError, match="expected a bundled model"):
        identify_model("nobody")
