import numpy as np
import pytest
import torch

from sfisep_core.errors import ConfigError
from sfisep_core.models.registry import build_model
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import SeparationSettings
from tests.compiler import compiles

pytestmark = [*compiles, pytest.mark.slow]


def make() -> SFIConvTasNet:
    torch.manual_seed(0)
    tcn = {"bottleneck_channels": 8, "hidden_channels": 16, "num_layers": 2, "norm": "batch"}
    model = build_model("sfi-conv-tasnet", {"num_filters": 32, "tcn": tcn})
    assert isinstance(model, SFIConvTasNet)
    return model


def test_compiled_network_separates_alike() -> None:
    model = make()
    settings = SeparationSettings(segment=0.3)
    separator = Separator(model, settings, device="cpu", compiled=True)
    plain = Separator(model, settings, device="cpu")
    rng = np.random.default_rng(0)
    for rate, length in ((8000, 5000), (11025, 9001), (8000, 700)):
        mixture = rng.normal(0, 0.1, (2, length)).astype(np.float32)
        expected = plain.separate((mixture, rate)).stems
        for name, stem in separator.separate((mixture, rate)).stems.items():
            assert np.abs(stem - expected[name]).max() < 1e-4  # of samples of about 0.3


def test_a_network_that_does_not_compile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: SFIConvTasNet, **_: object) -> None:
        def forward(*_: object, **__: object) -> None:
            msg = "CppCompileError: no compiler\nand more"
            raise RuntimeError(msg)

        self.forward = forward  # type: ignore[assignment, method-assign]

    monkeypatch.setattr(SFIConvTasNet, "compile_network", fail)
    message = "compile: expected .* got CppCompileError: no compiler: leave it out"
    with pytest.raises(ConfigError, match=message):
        Separator(make(), device="cpu", compiled=True)
