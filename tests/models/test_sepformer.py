from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.dual_path import (
    DualPathConfig,
    DualPathNetwork,
    cut_chunks,
    join_chunks,
    sinusoids,
)
from sfisep_core.models.sepformer import SepFormer, SepFormerConfig
from tests.models.parity import Fixture, difference, load_renamed

# From the names of the published program to ours.
NAMES = {
    r"^encoder\.conv1d\.": "encoder.",
    r"^masknet\.conv1d\.": "masker.conv_in.",
    r"^masknet\.conv2d\.": "masker.conv_sources.",
    r"^masknet\.output\.0\.": "masker.value.",
    r"^masknet\.output_gate\.0\.": "masker.gate.",
    r"^masknet\.end_conv1x1\.": "masker.conv_out.",
    r"^masknet\.dual_mdl\.": "masker.blocks.",
    r"^masknet\.": "masker.",
    r"_mdl\.mdl\.norm\.norm\.": ".norm.",
    r"_mdl\.mdl\.": ".",
    r"\.self_att\.att\.in_proj_": ".attention.project.",
    r"\.self_att\.att\.out_proj\.": ".attention.out.",
    r"\.pos_ffn\.ffn\.0\.": ".feed_forward.0.",
    r"\.pos_ffn\.ffn\.3\.": ".feed_forward.2.",
    r"\.norm([12])\.norm\.": r".norm_\1.",
}
SMALL = DualPathConfig(
    chunk_frames=10, num_blocks=2, intra_layers=1, inter_layers=1, num_heads=2, hidden_features=8
)


def small(**changes: Any) -> SepFormer:
    return SepFormer(SepFormerConfig(**{"num_filters": 8, "network": SMALL, **changes})).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_same_numbers_as_the_original(shared_dir: Path) -> None:
    fixture = Fixture(shared_dir, "sepformer")
    settings = fixture.constructor
    model = SepFormer(
        SepFormerConfig(
            sources=("first", "second"),
            num_filters=settings["encoder_out_nchannels"],
            kernel_size=settings["encoder_kernel_size"],
            network=DualPathConfig(
                chunk_frames=settings["masknet_chunksize"],
                num_blocks=settings["masknet_numlayers"],
                intra_layers=settings["intra_numlayers"],
                inter_layers=settings["inter_numlayers"],
                num_heads=settings["intra_nhead"],
                hidden_features=settings["intra_dffn"],
            ),
        )
    ).eval()
    load_renamed(model, fixture.state(), NAMES)
    for length in fixture.config["lengths"]:
        mixture = fixture.tensor(f"input/{length}")
        masks = model.masker(model.encode(mixture[:, None]))  # (B, S, N, frames)
        expected = fixture.tensor(f"mid/{length}/masknet").transpose(0, 1)  # of some sources
        assert difference(masks[:1, : expected.shape[1]], expected) < 5e-5
        stems = model(mixture[:, None], sample_rate=8000)[:, :, 0]  # (B, S, T)
        assert difference(stems.transpose(1, 2), fixture.tensor(f"output/{length}")) < 5e-5


def test_feed_forward_parts_may_differ() -> None:
    config = DualPathConfig(10, 2, 1, 1, 2, hidden_features=6, inter_hidden_features=20)
    model = SepFormer(SepFormerConfig(num_filters=8, kernel_size=7, network=config)).eval()
    widths = {
        name.split(".")[3]: len(weight)
        for name, weight in model.state_dict().items()
        if name.endswith("feed_forward.0.weight")
    }
    assert widths == {"intra": 6, "inter": 20}
    assert model(noise(1, 1, 501), sample_rate=8000).shape == (1, 4, 1, 501)


def test_sinusoids_are_the_published_ones(shared_dir: Path) -> None:
    expected = Fixture(shared_dir, "sepformer").tensor("mid/pe_first_32")
    assert difference(sinusoids(noise(1, 32, 64)), expected) < 1e-6


def test_sinusoids_of_any_length() -> None:
    found = sinusoids(noise(1, 3001, 4))  # the published table ends at 2500
    angles = 3000.0 * torch.tensor([1.0, 0.01])
    expected = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten()
    torch.testing.assert_close(found[3000], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("frames", "chunks"), [(1, 2), (4, 2), (5, 4), (6, 4), (10, 4), (14, 4), (15, 6)]
)
def test_chunks_are_the_published_ones(frames: int, chunks: int) -> None:
    """Windows of K = 10 frames, half of it apart, over P + frames + gap + P."""
    size = 10
    gap = size - (size // 2 + frames % size) % size
    features = noise(2, 3, frames)
    found = cut_chunks(features, size)
    assert found.shape == (2, 3, (frames + gap + size - size) // 5 + 1, size)
    assert found.shape[2] == chunks
    padded = torch.nn.functional.pad(features, (5, gap + 5))
    for number in range(chunks):
        assert torch.equal(found[:, :, number], padded[..., 5 * number : 5 * number + 10])
    # Every frame is in two chunks.
    assert torch.equal(join_chunks(found, frames), 2 * features)


def test_fresh_weights_differ() -> None:
    """In the published program the second block starts with attention weights of the first."""
    torch.manual_seed(0)
    blocks = small().masker.blocks
    matrices = [
        (name, parameter) for name, parameter in blocks.named_parameters() if parameter.dim() > 1
    ]
    assert len(matrices) == 2 * 2 * 4
    for i, (name, matrix) in enumerate(matrices):
        for other, earlier in matrices[:i]:
            assert matrix.shape != earlier.shape or not torch.equal(matrix, earlier), (name, other)


def test_number_of_parameters_is_the_published_one() -> None:
    with torch.device("meta"):
        model = SepFormer(SepFormerConfig(sources=("first", "second")))
    assert sum(p.numel() for p in model.parameters()) == 25_679_361
    stack = model.masker.blocks[0].intra
    assert sum(p.numel() for p in stack.parameters()) == 6_318_592
    assert sum(p.numel() for p in stack.layers[0].parameters()) == 789_760


@torch.no_grad()
def test_order_within_and_of_chunks_is_heard() -> None:
    """Without positions a transformer would not know which frame is which."""
    torch.manual_seed(0)
    network = DualPathNetwork(SMALL, num_features=8, num_sources=1).eval()
    latent = noise(1, 8, 30)
    for shift in (1, 5):
        moved = network(latent.roll(shift, dims=-1))
        assert difference(moved, network(latent).roll(shift, dims=-1)) > 1e-3


@torch.no_grad()
def test_samples_that_fill_no_window_are_silent() -> None:
    stems = small()(noise(1, 1, 16 + 8 + 7), sample_rate=8000)
    assert stems[..., :24].abs().amax(dim=1).min() > 0
    assert (stems[..., 24:] == 0).all()
    assert small()(noise(1, 1, 5), sample_rate=8000).abs().max() > 0  # less than a window


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk_frames": 7}, "chunk_frames: expected an even number of 2 to 65536, got 7"),
        ({"num_blocks": 0}, "num_blocks: expected 1 to 64, got 0"),
        ({"num_heads": 0}, "num_heads: expected 1 to 256, got 0"),
        ({"hidden_features": 0}, "hidden_features: expected 1 to 65536, got 0"),
    ],
)
def test_sizes_are_checked(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DualPathConfig(**settings)


@pytest.mark.parametrize(("features", "heads"), [(8, 3), (9, 3)])
def test_heads_must_divide_the_filters(features: int, heads: int) -> None:
    with pytest.raises(ConfigError, match=f"even multiple of num_heads = {heads}, got {features}"):
        DualPathNetwork(DualPathConfig(num_heads=heads), num_features=features, num_sources=1)
