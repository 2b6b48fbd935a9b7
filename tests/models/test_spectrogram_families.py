"""What goes in comes out, whatever the family, where its network lets everything pass."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sfisep_core.errors import ConfigError
from sfisep_core.models.registry import build_model
from sfisep_core.models.spectrogram_model import SpectrogramModel
from tests.separation.divider import separated


class Pass(nn.Module):
    """What an oracle would say if every source were the mixture, or an equal share of it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.device = kind, nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        if self.kind == "imaginary part 0":
            real, imag = features.chunk(2, dim=1)
            features = torch.cat([torch.full_like(real, 20.0), torch.zeros_like(imag)], dim=1)
        elif self.kind == "ones":
            features = torch.ones_like(features)
        return features.unsqueeze(1).repeat(1, 4, *[1] * (features.dim() - 1))


# Family, settings, what passes everything, and the share of the mixture that each stem then is.
CASES: dict[str, tuple[str, dict[str, Any], str, float]] = {
    "deepconvsep": ("deepconvsep", {}, "ones", 0.25),
    "deepconvsep for Keras": (
        "deepconvsep",
        {
            "stft": {"padding": "reflect"},
            "network": {"frames": 25, "tied": False, "activation": "abs"},
            "overlap": 0,
        },
        "ones",
        0.25,
    ),
    "deepconvsep stereo": (
        "deepconvsep",
        {"stft": {"window": "hann-symmetric"}, "network": {"channels": 2}},
        "ones",
        0.25,
    ),
    "unet": ("unet", {"network": {"channels": [2, 2, 2]}}, "ones", 1.0),
    "cunet": ("unet", {"network": {"channels": [2, 2, 2], "control": "dense"}}, "ones", 1.0),
    "tfc-unet": ("tfc-unet", {}, "what comes in", 1.0),
    "tfc-unet mask": ("tfc-unet", {"output": "mask"}, "imaginary part 0", 1.0),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[SpectrogramModel, float]:
    family, settings, passes, share = CASES[request.param]
    model = build_model(family, {**settings, "gain_rule": "least-squares"}).eval()
    assert isinstance(model, SpectrogramModel)
    model.network = Pass(passes)
    return model, share


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 2, 777, 12345, 30011])
@torch.no_grad()
def test_what_passes_the_network_comes_back(
    case: tuple[SpectrogramModel, float], length: int
) -> None:
    model, share = case
    mixture = noise(1, 2, length)
    stems = model(mixture, sample_rate=model.native_rate)
    assert (stems - share * mixture.unsqueeze(1)).abs().max() < 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_what_passes_the_network_comes_back_from_segments(
    case: tuple[SpectrogramModel, float],
) -> None:
    """A published program for Keras keeps 10.6 dB at best: its segments do not overlap."""
    model, _ = case  # one gain is fitted for the whole of each stem, which mends no seam
    mixture = noise(2, 4 * model.native_rate + 1).numpy()
    stems = separated(model, mixture, sample_rate=model.native_rate, segment=1.0)
    assert np.abs(stems.sum(0) - mixture).max() < 1e-5


@pytest.mark.slow
def test_bins_must_fit_the_levels_of_a_unet() -> None:
    with pytest.raises(ConfigError, match=r"6 levels: expected stft.n_fft to be a multiple of 128"):
        build_model("unet", {"stft": {"n_fft": 1000}})


def test_overlap_must_fit_the_window() -> None:
    with pytest.raises(ConfigError, match="overlap: expected 0 to 29 frames, got 30"):
        build_model("deepconvsep", {"overlap": 30})
