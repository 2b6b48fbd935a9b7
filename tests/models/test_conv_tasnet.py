from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
from torch import Tensor, nn

from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.tcn import TCNConfig
from sfisep_core.models.conv_tasnet import ConvTasNet, ConvTasNetConfig
from tests.models.parity import Fixture, difference, load_renamed

# From the names of torchaudio to ours.
NAMES = {
    r"^mask_generator\.input_norm\.": "masker.norm.",
    r"^mask_generator\.input_conv\.": "masker.conv_in.",
    r"^mask_generator\.output_prelu\.": "masker.prelu.",
    r"^mask_generator\.output_conv\.": "masker.conv_out.",
    r"^mask_generator\.conv_layers\.": "masker.layers.",
    r"\.res_out\.": ".residual.",
    r"\.skip_out\.": ".skip.",
    **{
        rf"\.conv_layers\.{place}\.": f".{name}."
        for place, name in enumerate(
            ("conv_in", "prelu_1", "norm_1", "depthwise", "prelu_2", "norm_2")
        )
    },
}


def model_like(settings: dict[str, Any], **changes: Any) -> ConvTasNet:
    """Build the model that torchaudio builds with these settings."""
    config = ConvTasNetConfig(
        sources=tuple(f"source-{i}" for i in range(settings["num_sources"])),
        num_filters=settings["enc_num_feats"],
        kernel_size=settings["enc_kernel_size"],
        mask=settings["msk_activate"],
        tcn=TCNConfig(
            bottleneck_channels=settings["msk_num_feats"],
            hidden_channels=settings["msk_num_hidden_feats"],
            kernel_size=settings["msk_kernel_size"],
            num_layers=settings["msk_num_layers"],
            num_stacks=settings["msk_num_stacks"],
            norm_groups=1,
        ),
        **changes,
    )
    return ConvTasNet(config).eval()


def small(**changes: Any) -> ConvTasNet:
    tcn = TCNConfig(
        bottleneck_channels=4, hidden_channels=6, num_layers=2, num_stacks=2, norm_groups=1
    )
    return ConvTasNet(ConvTasNetConfig(**{"num_filters": 8, "tcn": tcn, **changes})).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["convtasnet_sigmoid", "convtasnet_relu"])
@torch.no_grad()
def test_same_numbers_as_the_original(shared_dir: Path, name: str) -> None:
    fixture = Fixture(shared_dir, name)
    model = model_like(fixture.constructor)
    load_renamed(model, fixture.state(), NAMES)
    for length in fixture.config["lengths"]:
        mixture = fixture.tensor(f"input/{length}")
        stems = model(mixture, sample_rate=8000)  # (B, S, 1, T)
        assert difference(stems[:, :, 0], fixture.tensor(f"output/{length}")) < 1e-5


@pytest.mark.parametrize(
    ("mask", "kernel_size"), [("sigmoid", 10), ("relu", 10), ("sigmoid", 15), ("relu", 3)]
)
@torch.no_grad()
def test_same_numbers_as_torchaudio(mask: str, kernel_size: int) -> None:
    settings: dict[str, Any] = {
        "num_sources": 3,
        "enc_kernel_size": kernel_size,
        "enc_num_feats": 20,
        "msk_kernel_size": 3,
        "msk_num_feats": 6,
        "msk_num_hidden_feats": 9,
        "msk_num_layers": 3,
        "msk_num_stacks": 2,
        "msk_activate": mask,
    }
    torch.manual_seed(0)
    reference: nn.Module = torchaudio.models.ConvTasNet(**settings).eval()
    for parameter in reference.parameters():  # a fresh norm is the identity
        parameter.add_(0.2 * torch.randn_like(parameter))
    model = model_like(settings)
    load_renamed(model, reference.state_dict(), NAMES)
    for length in (1, 2, 5, 9, 10, 11, 777, 1000, 1003):
        mixture = noise(2, 1, length, seed=length)
        stems = model(mixture, sample_rate=8000)[:, :, 0]
        assert difference(stems, reference(mixture)) < 1e-5


def test_number_of_parameters_is_that_of_torchaudio() -> None:
    with torch.device("meta"):
        reference = torchaudio.models.ConvTasNet()
        model = ConvTasNet(ConvTasNetConfig(sources=("first", "second")))
    counts = [sum(p.numel() for p in network.parameters()) for network in (reference, model)]
    assert counts == [4_984_881, 4_984_881]


@pytest.mark.parametrize(
    ("layers", "norm", "window", "invariant"),
    [
        (7, "frame", 1, True),  # 2 * 127 frames of 8 samples: a quarter of a second
        (8, "frame", 1, False),  # 2 * 255: 0.51 s, and 0.5 s are given
        (8, "global", 1, False),
        (2, "global", 1, False),
        (2, "batch", 1, True),
        (2, "window", 101, True),  # 6 + 9 * 50 frames
        (2, "window", 111, False),  # 6 + 9 * 55 frames: 0.501 s
    ],
)
def test_segments_agree_only_if_the_context_is_all_that_is_heard(
    layers: int, norm: Any, window: int, invariant: bool
) -> None:
    tcn = TCNConfig(4, 4, 3, layers, 2, norm=norm, norm_groups=1, norm_window=window)
    assert small(tcn=tcn).segments.chunk_invariant is invariant


@torch.no_grad()
def test_a_frame_is_heard_as_far_as_is_counted() -> None:
    """6 frames to either side, each of 16 samples, 8 apart."""
    tcn = TCNConfig(4, 4, 3, 2, 2, norm="frame")
    model = small(tcn=tcn)
    mixture = noise(1, 1, 400)
    changed = mixture.clone()
    changed[..., 200] += 1.0
    heard = (model(changed, sample_rate=8000) != model(mixture, sample_rate=8000)).any(dim=1)
    places = heard[0, 0].nonzero().flatten()
    # Sample 200 is in the frames that start at 192 and 200, and their masks in 6 more each.
    assert (int(places.min()), int(places.max())) == (192 - 48, 200 + 48 + 15)


def test_sizes_are_checked() -> None:
    with pytest.raises(ConfigError, match="kernel_size: expected 2 to 8192, got 1"):
        ConvTasNetConfig(num_filters=8, kernel_size=1)
    with pytest.raises(ConfigError, match="num_filters: expected 1 to 4096, got 0"):
        ConvTasNetConfig(num_filters=0)
