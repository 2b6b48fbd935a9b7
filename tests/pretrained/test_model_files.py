import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sfisep_core.errors import CheckpointError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.declared_size import check_fit
from sfisep_core.pretrained.description import ModelDescription, read_description
from sfisep_core.pretrained.model_files import load_model, save_model
from sfisep_core.pretrained.registry import known_sources
from sfisep_core.pretrained.resolve import resolve_model

SETTINGS: dict[str, Any] = {
    "num_filters": 24,
    "sources": ["voice", "rest"],
    "segment_seconds": 7,
    "mask": "free",
    "trunk": "shared",
    "tcn": {
        "bottleneck_channels": 8,
        "hidden_channels": 8,
        "num_layers": 2,
        "num_stacks": 1,
        "norm": "batch",
    },
}


def make_model(seed: int = 0) -> SeparationModel:
    torch.manual_seed(seed)
    return build_model("sfi-conv-tasnet", SETTINGS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a saved model."""
    path = tmp_path / "new" / "folder" / "model.safetensors"
    save_model(make_model(), path, training={"steps": 12, "data": "é"}, licence="CC0")
    return path


def rewrite(path: Path, *, drop: str | None = None, **changes: Any) -> None:
    """Change entries of a file's description."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    description = {**json.loads(metadata["sfisep"]), **changes}
    description.pop(drop, None)
    save_file(tensors, path, metadata={"sfisep": json.dumps(description)})


def test_weights_and_settings_come_back_exactly(path: Path) -> None:
    model, loaded = make_model(), load_model(path)
    assert loaded.config == model.config
    assert loaded.sources == ("voice", "rest")
    assert loaded.segments.seconds == 7
    assert not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name


def test_description_is_read_without_the_weights(path: Path) -> None:
    description = read_description(path)
    assert description == ModelDescription(
        family="sfi-conv-tasnet",
        config=description.config,
        training={"steps": 12, "data": "é"},
        licence="CC0",
    )
    assert description.config["sources"] == ["voice", "rest"]
    assert description.config["tcn"]["norm"] == "batch"
    assert description.config["native_rate"] == 32000  # defaults are written out


def test_file_holds_nothing_but_tensors_and_json(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(make_model().state_dict())
    assert list(metadata) == ["sfisep"]
    assert json.loads(metadata["sfisep"])["format_version"] == 1


def test_half_storage_rounds_matrices_only(tmp_path: Path, path: Path) -> None:
    half_path = tmp_path / "half.safetensors"
    save_model(make_model(), half_path, storage="float16")
    assert half_path.stat().st_size < path.stat().st_size - 2 * 24 * 8
    expected = make_model().state_dict()
    rounded = set()
    for name, tensor in load_model(half_path).state_dict().items():
        assert tensor.dtype == expected[name].dtype
        if torch.equal(tensor, expected[name]):
            continue
        rounded.add(name)
        # half the spacing of 11 significant bits, or of the smallest half-precision numbers
        error = (tensor - expected[name]).abs()
        assert (error <= expected[name].abs() * 2**-11 + 2**-25).all()
    assert rounded == {
        name
        for name, tensor in expected.items()
        if tensor.dim() > 1 and ".filters." not in name and tensor.is_floating_point()
    }
    assert any("depthwise" in name for name in rounded)


def test_saving_replaces_and_leaves_nothing_else(path: Path) -> None:
    save_model(make_model(seed=1), path)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
    expected = make_model(seed=1).state_dict()
    assert all(torch.equal(expected[n], t) for n, t in load_model(path).state_dict().items())


def test_saved_file_may_be_read_by_whom_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_model(make_model(), tmp_path / "model.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o640


def test_a_failed_save_leaves_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> bytes:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sfisep_core.pretrained.tensor_files.save", fail)
        with pytest.raises(CheckpointError, match=r"cannot be written: .*No space left"):
            save_model(make_model(seed=1), path)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
    assert torch.equal(
        load_model(path).state_dict()["masker.conv_in.weight"],
        make_model().state_dict()["masker.conv_in.weight"],
    )


def test_saving_below_a_file_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_model(make_model(), path / "model.safetensors")


def test_a_later_format_is_refused(path: Path) -> None:
    rewrite(path, format_version=3)
    for read in (read_description, load_model):
        with pytest.raises(CheckpointError, match=r"version 3, .* up to 2: install a newer sfisep"):
            read(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"RIFF    WAVEfmt ", b"\x80\x02}q\x00.", b"\xff" * 8, b"\x08" + b"\0" * 7 + b"{}"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    for read in (read_description, load_model):
        with pytest.raises(CheckpointError, match=r"other\.safetensors: "):
            read(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=r"cannot be read: No such file|is not a regular"):
            load_model(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.999])
def test_truncated_files_are_refused(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"cannot be read as one|is cut: its header"):
        load_model(path)


def test_foreign_safetensors_are_refused(path: Path) -> None:
    tensors = {"weight": torch.zeros(3)}
    for metadata in (None, {"format": "pt"}, {"sfisep": "not JSON"}, {"sfisep": "[1]"}):
        save_file(tensors, path, metadata=metadata)
        with pytest.raises(CheckpointError, match="without sfisep's description"):
            load_model(path)


@pytest.mark.parametrize("key", ["family", "config", "format_version"])
def test_incomplete_descriptions_are_refused(path: Path, key: str) -> None:
    rewrite(path, drop=key)
    with pytest.raises(CheckpointError, match=key):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "wavenet"}, "'wavenet': unknown"),
        ({"config": {**SETTINGS, "depth": 3}}, "unknown setting 'depth'"),
        (
            {"config": {**SETTINGS, "num_filters": "24"}},
            "num_filters: expected a value of type int",
        ),
        ({"config": {**SETTINGS, "num_filters": 25}}, "size mismatch"),
        ({"config": {**SETTINGS, "stride": 0}}, "stride: expected 1 to 8192, got 0"),
        ({"config": {**SETTINGS, "native_rate": 0}}, "native_rate"),
        ({"config": {**SETTINGS, "native_rate": 10**400}}, r"1 to 384000, got 10+\.\.\."),
        ({"config": {**SETTINGS, "num_filters": -4}}, "num_filters: expected 1 to 4096, got -4"),
        ({"config": {**SETTINGS, "tcn": {"bottleneck_channels": 0}}}, "expected 1 to 4096, got 0"),
        ({"config": {**SETTINGS, "tcn": 3}}, "tcn: expected a table"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(
    path: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite(path, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(path)
    assert "weights and description do not fit" in str(caught.value)


@pytest.mark.parametrize("source", ["../x", "residual", "a\0b", "Rest", ""])
def test_sources_that_name_no_file_are_refused_without_the_weights(path: Path, source: str) -> None:
    rewrite(path, config={**SETTINGS, "sources": [source, "rest"]})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: sources: "):
        known_sources(str(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(path: Path, value: float) -> None:
    before = path.read_bytes()
    model = make_model()
    with torch.no_grad():
        model.get_parameter("masker.layers.1.skip.weight")[0, 0] = value
    with pytest.raises(CheckpointError, match=r"masker\.layers\.1\.skip\.weight holds values"):
        save_model(model, path)
    assert path.read_bytes() == before
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(model.state_dict(), path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"masker\.layers\.1\.skip\.weight holds values"):
        load_model(path)


def test_matrices_beyond_half_precision_are_noticed(path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model.get_parameter("masker.layers.1.skip.weight")[0, 0] = 1e6
    with pytest.raises(CheckpointError, match="not finite"):
        save_model(model, path, storage="float16")


def test_misfits_are_one_line(path: Path) -> None:
    rewrite(path, config={**SETTINGS, "num_filters": 25})
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert re.fullmatch(
        re.escape(f"model file {path}: weights and description do not fit: ")
        + r"size mismatch of weight [\w.]+: expected \[.*\], found \[.*\] \(and \d+ more\)",
        str(caught.value),
    )
    weights = make_model().state_dict()
    del weights["masker.conv_in.weight"]
    weights["more"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        check_fit(make_model().state_dict(), weights, where="here")
    assert str(caught.value) == "here: weight masker.conv_in.weight is missing (and 1 more)"


def test_descriptions_of_many_brackets_are_refused(path: Path) -> None:
    save_file({"w": torch.zeros(1)}, path, metadata={"sfisep": "[" * 100000})
    with pytest.raises(CheckpointError, match="without sfisep's description"):
        load_model(path)


@pytest.mark.parametrize("name", ["n" * 300, "n" * 300 + ".safetensors", "null\0byte"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"found no such file$"):
        resolve_model(name)
