import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.declared_size import build_declared
from sfisep_core.pretrained.model_files import load_model
from sfisep_core.pretrained.official import load_official_model
from tests.pretrained.test_model_files import SETTINGS
from tests.pretrained.test_official import make_checkpoint


def shapes_of(family: str, config: dict[str, Any]) -> dict[str, torch.Size]:
    return {n: t.shape for n, t in build_model(family, config).state_dict().items()}


def test_settings_fit_their_own_weights() -> None:
    shapes = shapes_of("sfi-conv-tasnet", SETTINGS)
    model = build_declared("sfi-conv-tasnet", SETTINGS, shapes, where="here")
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes
    build_model("sfi-conv-tasnet", {**SETTINGS, "tcn": {"num_stacks": 9}})  # no limit is left


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("sfi-conv-tasnet", {"tcn": {"num_layers": 10**9}}),
        ("sfi-conv-tasnet", {"tcn": {"num_stacks": 10**9}}),
        ("sfi-conv-tasnet", {"tcn": {"hidden_channels": 10**7, "bottleneck_channels": 10**7}}),
        ("sfi-conv-tasnet", {"num_filters": 10**6}),
        ("conv-tasnet", {"num_filters": 10**8}),
        ("unet", {"channels": [10**6] * 6}),
    ],
)
def test_settings_of_huge_models_cost_no_more_than_their_file(
    tmp_path: Path, family: str, config: dict[str, Any]
) -> None:
    path = tmp_path / "model.safetensors"
    description = {"format_version": 1, "family": family, "config": config}
    save_file({"w": torch.zeros(2)}, path, metadata={"sfisep": json.dumps(description)})
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="weights and description do not fit"):
            load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_published_settings_of_huge_models_are_refused(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "best", lambda s, _: s.update(layers=10**9))
    with pytest.raises(CheckpointError, match="num_layers: expected 1 to 16, got 1000000000"):
        load_official_model(tmp_path / "best")
    make_checkpoint(tmp_path / "best", lambda s, _: s.update(B=4096, H=4096))
    with pytest.raises(CheckpointError, match=r"ask for more than \d+ values"):
        load_official_model(tmp_path / "best")


def test_settings_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown setting"):
        build_declared("sfi-conv-tasnet", {"layers": 1}, {}, where="here")


@pytest.mark.slow
def test_loading_a_model_imports_no_computer_algebra() -> None:
    """PyTorch's meta device would: importing SymPy takes longer than loading the model."""
    code = (
        "import sys; from sfisep_core import load_model; load_model('default'); "
        "sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
