"""Doublings as plain convolutions: the same features, and the same stems."""

import pytest
import torch
from torch import nn

from sfisep_core.models.blocks.doubling import Doubling
from sfisep_core.models.inference.polyphase import PolyphaseDoubling, polyphase
from sfisep_core.models.registry import build_model

SETTINGS = {
    "sources": ["vocals", "accompaniment"],
    "network": {"channels": [2, 3, 4]},
    "patch_frames": 64,
    "patch_overlap": 14,
}


@torch.no_grad()
def test_one_input_gives_its_kernel() -> None:
    doubling = Doubling(1, 1)
    assert doubling.bias is not None
    doubling.bias.zero_()
    impulse = torch.zeros(1, 1, 5, 6)
    impulse[..., 2, 3] = 1.0
    out = PolyphaseDoubling(doubling)(impulse)
    assert out.shape == (1, 1, 10, 12)
    # Tap 1 of 5 lies at twice the place: of what TensorFlow pads, one lies before.
    assert torch.equal(out[0, 0, 3:8, 5:10], doubling.weight[0, 0])
    assert out.count_nonzero() == 25


@pytest.mark.parametrize(("inputs", "outputs", "frames", "bins"), [(3, 2, 4, 6), (8, 1, 1, 1)])
@torch.no_grad()
def test_features_are_the_same(inputs: int, outputs: int, frames: int, bins: int) -> None:
    torch.manual_seed(0)
    doubling, features = Doubling(inputs, outputs), torch.randn(2, inputs, frames, bins)
    expected = doubling(features)
    assert expected.shape == (2, outputs, 2 * frames, 2 * bins)
    torch.testing.assert_close(PolyphaseDoubling(doubling)(features), expected)


@pytest.mark.slow
@pytest.mark.parametrize("masks", ["ratio", "complement"])
@pytest.mark.parametrize("sample_rate", [8000, 44100])
@torch.no_grad()
def test_stems_are_the_same(masks: str, sample_rate: int) -> None:
    torch.manual_seed(0)
    model = build_model("spleeter", {**SETTINGS, "masks": masks}).eval()
    faster = model.for_inference()
    parts = [type(part) for part in faster.modules()]
    assert Doubling not in parts
    assert PolyphaseDoubling in parts
    assert any(isinstance(part, nn.ConvTranspose2d) for part in model.modules())  # left as it was
    mixture = torch.randn(1, 3, 2 * sample_rate)
    expected = model(mixture, sample_rate=sample_rate)
    torch.testing.assert_close(faster(mixture, sample_rate=sample_rate), expected)
    assert model.for_inference(compiled=True) is model


@torch.no_grad()
def test_copy_leaves_the_network() -> None:
    network = nn.Sequential(Doubling(2, 1))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    polyphase(network)
    assert isinstance(network[0], Doubling)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
