"""Which model super-resolution runs, for every way of naming it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model
from sfisep_core.models.super_resolved import SuperResolvedSeparator
from sfisep_core.pretrained.model_files import save_model
from sfisep_core.separation.settings import MethodOptions
from sfisep_core.separation.super_resolution import super_resolve
from tests.separation.divider import decibels, separated

TCN = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 1, "num_stacks": 1}


def small(family: str = "sfi-conv-tasnet", **config: Any) -> SeparationModel:
    torch.manual_seed(0)
    return build_model(family, {"num_filters": 16, "tcn": TCN, **config}).eval()


def resolved(**config: Any) -> SeparationModel:
    torch.manual_seed(0)
    inner = {"family": "sfi-conv-tasnet", "config": {"num_filters": 16, "tcn": TCN}}
    settings = {"separator": inner, "low_rate": 6000, "restorer": {"widths": [2, 2, 2]}, **config}
    return build_model("super-resolved", settings).eval()


def asked(model: SeparationModel, **options: Any) -> SeparationModel:
    settings = {"sample_rate": 44100, "low_rate": 0, "network": ""}
    return super_resolve(model, **{**settings, **options})


def test_without_a_network_the_native_rate_is_the_low_one() -> None:
    model = small()
    found = asked(model)
    assert isinstance(found, SuperResolvedSeparator)
    assert found.config.low_rate == 32000
    assert found.separator is model
    assert found.restorer.network is None
    assert asked(model, sample_rate=32000) is model
    lower = asked(model, low_rate=8000)
    assert isinstance(lower, SuperResolvedSeparator)
    assert lower.config.low_rate == 8000


def test_network_brings_its_low_rate(tmp_path: Path) -> None:
    save_model(resolved(), tmp_path / "network.safetensors")
    network = str(tmp_path / "network.safetensors")
    found = asked(small(), network=network)
    assert isinstance(found, SuperResolvedSeparator)
    assert found.config.low_rate == 6000
    assert found.restorer.network is not None
    lower = asked(small(), network=network, low_rate=8000)
    assert isinstance(lower, SuperResolvedSeparator)
    assert lower.restorer is found.restorer
    assert lower.config.low_rate == 8000


def test_super_resolved_model_is_taken_apart() -> None:
    model = resolved()
    assert isinstance(model, SuperResolvedSeparator)
    found = asked(model)
    assert isinstance(found, SuperResolvedSeparator)
    assert found.separator is model.separator
    assert found.restorer is model.restorer
    assert found.config.low_rate == 6000


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    save_model(small(), tmp_path / "small.safetensors")
    with pytest.raises(ConfigError, match="expected a super-resolved model"):
        asked(small(), network=str(tmp_path / "small.safetensors"))
    save_model(resolved(), tmp_path / "network.safetensors")
    with pytest.raises(ConfigError, match="expected one for a, b, got one for vocals"):
        asked(small(sources=["a", "b"]), network=str(tmp_path / "network.safetensors"))
    for rate in (-1, 5, 10**9):
        with pytest.raises(ConfigError, match="low rate: expected 4000 to 384000 Hz"):
            MethodOptions(low_rate=rate)


def test_rate_bound_model_serves_every_rate() -> None:
    model = small("conv-tasnet", native_rate=8000, kernel_size=16)
    for rate in (4000, 8000, 22050, 44100):
        mixture = np.random.default_rng(0).normal(0, 0.1, (2, rate)).astype(np.float32)
        stems = separated(model, mixture, method="super-resolve", sample_rate=rate)
        assert stems.shape == (4, 2, rate)
        if rate != 8000:
            np.testing.assert_allclose(stems.sum(axis=0), mixture, atol=1e-4)


def test_network_is_computed_with_fewer_bits() -> None:
    mixture = np.random.default_rng(0).normal(0, 0.1, (2, 8000)).astype(np.float32)
    exact, fast = (
        separated(resolved(), mixture, sample_rate=16000, method="native", precision=precision)
        for precision in ("fp32", "bf16")
    )
    assert -100 < decibels(fast - exact, exact) < -30
    # Samples have 32 bits all the same.
    assert decibels(fast.sum(axis=0) - mixture, mixture) < -100
