import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

from sfisep_core.audio.stores import MemoryStore, read_all
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import FAMILIES, build_model
from sfisep_core.pretrained import export
from sfisep_core.pretrained.export import ExportRequest, export_model
from sfisep_core.pretrained.model_files import load_model, save_model
from sfisep_core.separation.methods import separate_signal
from sfisep_core.separation.settings import SeparationSettings
from tests.contract.test_models import VARIANTS, small_model

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/export.md"
SMALL_TCN = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 2, "num_stacks": 2}
SMALL = {"num_filters": 24, "tcn": {**SMALL_TCN, "norm_groups": 2}, "context_seconds": 0.1}

# Small models of the contract and Hz: rates other than the native ones where a family has them.
EXPORTED = {
    "conv-tasnet frame": 32000,
    "unet conditioned": 8000,
    "deepconvsep stereo": 44100,
    "tfc-unet lasaft": 8000,
    "scnet": 16000,
    "sepformer": 32000,
    "sfsrnet": 32000,
    "sfi-conv-tasnet as published": 44100,  # gains by least squares
}
REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "hdemucs": ("hdemucs", {"channels": 4}, 44100, "transforms within torchaudio's network"),
    "least squares": (
        "super-resolved",
        {"separator": {"family": "sfi-conv-tasnet", "config": SMALL}},
        32000,
        "its separator's gains are solutions of equations",
    ),
    "soxr": (
        "super-resolved",
        {
            "separator": {
                "family": "sfi-conv-tasnet",
                "config": {**SMALL, "gain_rule": "mixture-consistent"},
            }
        },
        44101,
        "44101 and 8000 Hz have so small a common divisor",
    ),
    "an odd rate": ("sfi-conv-tasnet", SMALL, 7999, "frames start at [0-9]+ places between samp"),
    "another rate": (
        "conv-tasnet",
        {"num_filters": 24, "tcn": SMALL_TCN},
        44100,
        "at 8000 Hz only",
    ),
}


def built(family: str, config: dict[str, Any]) -> SeparationModel:
    """Build a model with random weights."""
    torch.manual_seed(0)
    return build_model(family, config).eval()


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """Open a file as a program without PyTorch would."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def test_every_family_is_tried() -> None:
    tried = {VARIANTS[name][0] for name in EXPORTED} | {family for family, *_ in REFUSED.values()}
    assert tried | {"spleeter", "cascade", "ensemble"} == set(
        FAMILIES
    )  # the bundled default, below


@pytest.mark.slow
@pytest.mark.no_cover  # see tests/compiler.py
@pytest.mark.parametrize(("name", "rate"), EXPORTED.items())
def test_exported_network_is_the_model(name: str, rate: int, tmp_path: Path) -> None:
    model = small_model(name)
    save_model(model, tmp_path / "model.safetensors", licence="CC0")
    request = ExportRequest(str(tmp_path / "model.safetensors"), tmp_path / "a.onnx", rate, 0.1)
    result = export_model(request)
    assert result.error <= 1e-4
    frames = -(-rate // 10)
    assert result.network.input_shape == (2, frames)
    assert result.network.output_shape == (len(model.sources), 2, frames)
    assert result.network.licence == "CC0"
    # Against the way in which `sfisep separate` runs the model, on a signal that was not traced.
    mixture = np.random.default_rng(1).normal(0, 0.3, (2, frames)).astype(np.float32)
    mixture[1, : frames // 2] = 0
    (stems,) = session_of(result.path).run(None, {"mixture": mixture})
    expected = read_all(
        separate_signal(
            load_model(tmp_path / "model.safetensors"),
            MemoryStore(mixture),
            sample_rate=rate,
            settings=SeparationSettings(segment=0.0),
        )
    )
    if result.network.gains == "least-squares":
        for channel in range(2):
            gains = np.linalg.lstsq(stems[:, channel].T, mixture[channel])[0]
            stems[:, channel] *= gains[:, None]
    largest = max(np.abs(expected).max(), np.abs(mixture).max())
    assert np.abs(stems - expected).max() <= 1e-4 * largest


@pytest.mark.slow
@pytest.mark.no_cover
def test_default_model_is_exported(tmp_path: Path) -> None:
    result = export_model(ExportRequest("default", tmp_path / "a.onnx", 44100, 1.0))
    assert result.error <= 1e-5
    assert result.size == (tmp_path / "a.onnx").stat().st_size < 100e6


@pytest.mark.slow
@pytest.mark.no_cover
def test_page_runs_without_pytorch(tmp_path: Path) -> None:
    config = {**SMALL, "gain_rule": "mixture-consistent", "sources": ["vocals", "other"]}
    save_model(built("sfi-conv-tasnet", config), tmp_path / "model.safetensors")
    export_model(
        ExportRequest(str(tmp_path / "model.safetensors"), tmp_path / "a.onnx", 16000, 1.0)
    )
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    assert len([line for line in program.splitlines() if line]) <= 30
    music = np.random.default_rng(0).normal(0, 0.1, (53_210, 2)).astype(np.float32)
    soundfile.write(tmp_path / "song.wav", music, 16000, subtype="FLOAT")
    blocked = "import sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]\n"
    ran = subprocess.run(
        [sys.executable, "-c", blocked + program, "page", "a.onnx", "song.wav"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    stems = [soundfile.read(tmp_path / f"{stem}.wav")[0] for stem in ("vocals", "other")]
    np.testing.assert_allclose(sum(stems), music, atol=1e-5)
    # Every segment has a level of its own; noise has nearly the same level everywhere.
    whole = separate_signal(
        load_model(tmp_path / "model.safetensors"), MemoryStore(music.T.copy()), sample_rate=16000
    )
    expected = read_all(whole)[0]
    assert np.square(stems[0].T - expected).sum() < 1e-3 * np.square(expected).sum()


@pytest.mark.slow
@pytest.mark.no_cover
def test_file_says_what_goes_in(tmp_path: Path) -> None:
    save_model(built("sfi-conv-tasnet", SMALL), tmp_path / "model.safetensors")
    request = ExportRequest(
        str(tmp_path / "model.safetensors"), tmp_path / "a.onnx", 8000, channels=1
    )
    result = export_model(request)
    session = session_of(result.path)
    about = json.loads(session.get_modelmeta().custom_metadata_map["sfisep"])
    assert about["stems"] == ["vocals", "drums", "bass", "other"]
    assert about["sha256"] == result.network.sha256
    assert (about["sample_rate"], about["gains"]) == (8000, "least-squares")
    # 20 s, the family's segment, and a tenth of a second of context on either side
    assert about["context"] == 800
    assert session.get_inputs()[0].shape == about["input_shape"] == [1, 161_600]
    assert session.get_outputs()[0].shape == about["output_shape"] == [4, 1, 161_600]
    assert session.get_outputs()[0].name == about["output"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_says_why(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, config, rate, reason = REFUSED[name]
    save_model(built(family, config), tmp_path / "model.safetensors")
    monkeypatch.setattr(export, "_trace", None)  # it is refused before
    with pytest.raises(ConfigError, match=reason):
        export_model(
            ExportRequest(str(tmp_path / "model.safetensors"), tmp_path / "a.onnx", rate, 0.1)
        )
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.slow
def test_unknown_operations_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(built("sfi-conv-tasnet", SMALL), tmp_path / "model.safetensors")
    request = ExportRequest(str(tmp_path / "model.safetensors"), tmp_path / "a.onnx", 8000, 0.2)
    # A family of another program might compute with what ONNX lacks.
    for operation, reason in (
        (lambda stems: torch.linalg.inv(stems @ stems.mT), "linalg_inv"),
        (lambda stems: torch.complex(stems, stems).cumsum(dim=1), "cumsum"),
    ):
        monkeypatch.setattr(
            export.PortableNetwork,
            "_separate",
            lambda _, mixture, operation=operation: operation(mixture),
        )
        with pytest.raises(ConfigError, match=reason):
            export_model(request)
    assert not request.out.exists()


@pytest.mark.slow
@pytest.mark.no_cover
def test_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(built("sfi-conv-tasnet", SMALL), tmp_path / "model.safetensors")
    separate = export.PortableNetwork._separate
    monkeypatch.setattr(export.PortableNetwork, "_separate", lambda *given: 1.05 * separate(*given))
    with pytest.raises(CheckpointError, match=r"expected the model's stems to 0.0001, got "):
        export_model(
            ExportRequest(str(tmp_path / "model.safetensors"), tmp_path / "a.onnx", 8000, 0.2)
        )
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_file_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match="ONNX Runtime cannot run what PyTorch's exporter"):
        export._largest_error(tmp_path / "a.onnx", torch.ones(2, 10), torch.ones(4, 2, 10))


def test_packages_are_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_PACKAGES", ("numpy", "no_such_package"))
    with pytest.raises(ConfigError, match=r"no_such_package, not installed: run `pip install"):
        export_model(ExportRequest("no model", tmp_path / "a.onnx", 8000))


@pytest.mark.parametrize("name", ["a.safetensors", "missing/a.onnx"])
def test_names_of_files_are_checked_first(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a"):
        export_model(ExportRequest("no model", tmp_path / name, 8000))
