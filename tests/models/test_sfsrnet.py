"""SFSRNet: numbers of the published re-implementation, stages, super-resolution."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfisep_core.audio.stft import STFTConfig
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.conv_transformer import ConvDualPathBlock, ConvTransformerLayer
from sfisep_core.models.blocks.dual_path import DualPathConfig
from sfisep_core.models.blocks.super_resolution import (
    SuperResolution,
    SuperResolutionConfig,
    SuperResolutionNetwork,
    heuristic,
)
from sfisep_core.models.sfsrnet import SFSRNet, SFSRNetConfig
from tests.models.parity import Fixture, difference, load_renamed

LAYER_NAMES = {
    r"LayerNorm([12])\.": r"norm_\1.",
    r"self_attn\.in_proj_": "attention.project.",
    r"self_attn\.out_proj\.": "attention.out.",
    r"FeedForward\.0\.": "widen.",
    r"Conv\.": "conv.",
    r"^(intra|inter)_transformer\.": r"\1.layers.",
}
NETWORK_NAMES = {
    r"^conv1\.0": "convs.0",
    r"^conv2\.0": "convs.1",
    r"^conv3\.0": "convs.2",
    r"^conv4\.0": "convs.3",
    r"^layernorm1": "norms.0",
    r"^layernorm2": "norms.1",
    r"^layernorm3": "norms.2",
}
SMALL = DualPathConfig(
    chunk_frames=10, num_blocks=2, intra_layers=1, inter_layers=1, num_heads=2, hidden_features=8
)


def small(**changes: Any) -> SFSRNet:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "num_filters": 8,
        "network": SMALL,
        "stage_rates": (2000, 8000),
        "super_resolution": SuperResolutionConfig(widths=(4, 4, 4)),
        **changes,
    }
    return SFSRNet(SFSRNetConfig(**settings)).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_layer_gives_the_numbers_of_the_original(shared_dir: Path) -> None:
    fixture = Fixture(shared_dir, "sfsr_layer")
    layer = ConvTransformerLayer(32, fixture.constructor["nhead"], 64).eval()
    load_renamed(layer, fixture.state(), LAYER_NAMES)
    planes = fixture.tensor("input/z").transpose(0, 1)[None]  # (B, row, time, d)
    heard = layer.attention(layer.norm_1(planes).flatten(0, 1))
    assert difference(heard.transpose(0, 1), fixture.tensor("mid/attention")) < 5e-5
    found = layer(planes)[0].transpose(0, 1)
    assert difference(found, fixture.tensor("output/z")) < 5e-5


@torch.no_grad()
def test_block_gives_the_numbers_of_the_original(shared_dir: Path) -> None:
    fixture = Fixture(shared_dir, "sfsr_block")
    config = DualPathConfig(
        num_heads=fixture.constructor["nHead"], intra_layers=1, inter_layers=1, hidden_features=64
    )
    block = ConvDualPathBlock(config, fixture.constructor["input_size"]).eval()
    load_renamed(block, fixture.state(), LAYER_NAMES)
    found = block(fixture.tensor("input/z").transpose(2, 3)).transpose(2, 3)
    assert difference(found, fixture.tensor("output/z")) < 5e-5
    twice = block(fixture.tensor("input/z").transpose(2, 3).repeat(2, 1, 1, 1))
    torch.testing.assert_close(twice[1].transpose(1, 2), found[0])


@torch.no_grad()
def test_super_resolution_gives_the_numbers_of_the_original(shared_dir: Path) -> None:
    fixture = Fixture(shared_dir, "sfsr_superres")
    widths = tuple(fixture.config["widths"][:3])
    stft = STFTConfig(n_fft=256, hop=64, window="rectangular")
    stage = SuperResolution(
        SuperResolutionConfig(stft=stft, widths=widths, heuristic="paper"),
        num_sources=2,
        native_rate=8000,
    ).eval()
    load_renamed(stage.network, fixture.state(), NETWORK_NAMES)
    found = torch.relu(stage.network(fixture.tensor("input/features")))
    assert difference(found, fixture.tensor("output/network")) < 5e-5
    waveform = stage(fixture.tensor("input/estimates"), fixture.tensor("input/mixture"))
    assert difference(waveform, fixture.tensor("output/waveform")) < 5e-5


@pytest.mark.parametrize(("name", "low", "high"), [("odd", 65, 64), ("even", 32, 32)])
def test_heuristic_gives_the_numbers_of_the_original(
    name: str, low: int, high: int, shared_dir: Path
) -> None:
    fixture = Fixture(shared_dir, "sfsr_superres")
    mixture, estimate = (fixture.tensor(f"input/heur_{kind}_{name}") for kind in ("mix", "est"))
    found = heuristic(mixture[:, None], estimate[:, None], low=low, high=high, kind="paper")
    assert difference(found[:, 0], fixture.tensor(f"output/heuristic_{name}")) < 5e-5


def test_share_is_what_the_name_says_and_both_are_safe_on_silence() -> None:
    mixture = noise(1, 1, 9, 3).abs()
    estimates = torch.cat([0.25 * mixture, 3.0 * mixture, 0.0 * mixture], dim=1)
    share = heuristic(mixture, estimates, low=5, high=5, kind="share")
    expected = torch.cat([0.25 * mixture, mixture, 0.0 * mixture], dim=1)[:, :, 5:]
    torch.testing.assert_close(share[:, :, 5:], expected)
    assert not share[:, :, :5].any()
    paper = heuristic(mixture, estimates, low=5, high=5, kind="paper")
    torch.testing.assert_close(paper[:, 0, 5:], 4.0 * mixture[:, 0, 5:])
    assert not paper[:, 2].any()
    for kind in ("share", "paper"):
        silent = heuristic(0.0 * mixture, 0.0 * estimates, low=5, high=5, kind=kind)
        assert not silent.any()


def test_published_sizes() -> None:
    with torch.device("meta"):
        network = SuperResolutionNetwork(2, (128, 256, 128))
        model = SFSRNet(SFSRNetConfig(sources=("s1", "s2")))
    assert sum(p.numel() for p in network.parameters()) == 6_667_650
    # The re-implementation has 51,682,305 beside it, 4,096 of them in a decoder that nobody uses.
    beside = sum(p.numel() for p in model.parameters()) - 6_667_650
    assert beside == 51_682_305 - 4_096


def test_training_gives_every_stage_and_reaches_every_weight() -> None:
    model = small().train()
    stems = model(noise(2, 1, 1601), sample_rate=8000)
    assert stems.shape == (2, 3 * 4, 1, 1601)
    stems.square().sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    for block in model.masker.blocks:  # type: ignore[union-attr]
        assert any(p.grad is not None and p.grad.any() for p in block.parameters())
    first = model(noise(1, 1, 1601), sample_rate=8000)[:, :4]
    model.zero_grad()
    first.square().sum().backward()  # type: ignore[no-untyped-call]
    first_block, second_block = model.masker.blocks  # type: ignore[misc]
    assert any(p.grad is not None for p in first_block.parameters())  # type: ignore[union-attr]
    assert not any(p.grad is not None and p.grad.any() for p in second_block.parameters())  # type: ignore[union-attr]


@torch.no_grad()
def test_final_estimates_are_those_of_training() -> None:
    model = small()
    stems = model(noise(1, 2, 1601), sample_rate=8000)
    assert stems.shape == (1, 4, 2, 1601)
    while_training = model.train()(noise(1, 2, 1601), sample_rate=8000)
    torch.testing.assert_close(while_training[:, -4:], stems)


@torch.no_grad()
def test_super_resolution_only_adds() -> None:
    stage = small().super_resolution
    estimates, mixture = noise(2, 4, 4001), noise(2, 4001, seed=1)
    for parameter in stage.network.convs[-1].parameters():
        parameter.zero_()
    torch.testing.assert_close(stage(estimates, mixture), estimates, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [1, 15, 17, 4000])
@pytest.mark.parametrize("kind", ["share", "paper"])
@torch.no_grad()
def test_silence_and_short_signals(length: int, kind: str) -> None:
    model = small(super_resolution=SuperResolutionConfig(widths=(4, 4, 4), heuristic=kind))  # type: ignore[arg-type]
    for mixture in (torch.zeros(1, 1, length), noise(1, 1, length)):
        stems = model(mixture, sample_rate=8000)
        assert stems.shape == (1, 4, 1, length)
        assert stems.isfinite().all()
    estimates = torch.cat([torch.zeros(1, 1, length), noise(1, 3, length)], dim=1)
    assert model.super_resolution(estimates, noise(1, length)).isfinite().all()


@pytest.mark.parametrize("kind", ["share", "paper"])
def test_gradients_are_finite_for_silence(kind: str) -> None:
    model = small(super_resolution=SuperResolutionConfig(widths=(4, 4, 4), heuristic=kind)).train()  # type: ignore[arg-type]
    mixture = torch.zeros(1, 1, 1601)
    model(mixture, sample_rate=8000).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_items_of_a_batch_do_not_touch() -> None:
    model = small()
    mixture = noise(3, 1, 2000)
    together = model(mixture, sample_rate=8000)
    for item in range(3):
        alone = model(mixture[item : item + 1], sample_rate=8000)
        assert difference(together[item : item + 1], alone) < 1e-5


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected 2 rates, one a block, of 1 to 8000 Hz"):
        small(stage_rates=(8000,))
    with pytest.raises(ConfigError, match="one a block"):
        small(stage_rates=(8000, 16000))
    with pytest.raises(ConfigError, match="three widths"):
        SuperResolutionConfig(widths=(4, 4))
    with pytest.raises(ConfigError, match="paper or share"):
        SuperResolutionConfig(heuristic="none")  # type: ignore[arg-type]
