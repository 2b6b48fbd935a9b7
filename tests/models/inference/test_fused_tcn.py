import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfisep_core.models.blocks.tcn import MaskNetwork, TCNConfig
from sfisep_core.models.inference.fused_tcn import FusedMaskNetwork, can_fuse
from sfisep_core.models.registry import build_model

pytestmark = pytest.mark.slow

KINDS = [("global", "same"), ("batch", "same"), ("batch", "window"), ("global", "frame")]


def make_network(
    norm: Any, input_norm: Any, *, shared: bool, masks: bool, **sizes: int
) -> MaskNetwork:
    torch.manual_seed(0)
    config = TCNConfig(
        **{"bottleneck_channels": 8, "hidden_channels": 16, "num_layers": 4, **sizes},
        norm=norm,
        input_norm=input_norm,
        norm_groups=4,
        norm_window=9,
    )
    network = MaskNetwork(
        config, num_features=12, num_sources=3, networks=1 if shared else 3, softmax=masks
    )
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.5, 0.5)
        elif not isinstance(module, nn.Conv1d) and hasattr(module, "bias"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
            nn.init.normal_(module.bias)  # type: ignore[arg-type]
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3.0)
    return network.eval()


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("masks", [True, False])
# shorter than a kernel, than a dilated kernel, one block, one more, several
@pytest.mark.parametrize("frames", [1, 2, 7, 512, 513, 1500])
@torch.no_grad()
def test_fused_network_gives_the_same_masks(
    kind: tuple[str, str], shared: bool, masks: bool, frames: int
) -> None:
    network = make_network(*kind, shared=shared, masks=masks)
    latent = torch.randn(2, 12, frames).relu() * torch.tensor([1.0, 0.01])[:, None, None]
    before = latent.clone()
    expected = network(latent)
    actual = FusedMaskNetwork(network)(latent)
    assert actual.shape == expected.shape == (2, 3, 12, frames)
    # A norm of few values amplifies rounding: in 64 bits both agree to 1e-6 there, too.
    assert error(actual, expected) < (2e-6 if frames > 2 else 2e-3)
    assert torch.equal(latent, before)


@pytest.mark.parametrize(
    ("kernel_size", "num_layers", "num_stacks"), [(1, 2, 1), (5, 3, 2), (3, 1, 1)]
)
@torch.no_grad()
def test_fused_network_of_any_size(kernel_size: int, num_layers: int, num_stacks: int) -> None:
    network = make_network(
        "global",
        "same",
        shared=False,
        masks=True,
        kernel_size=kernel_size,
        num_layers=num_layers,
        num_stacks=num_stacks,
    )
    latent = torch.randn(1, 12, 700)
    assert error(FusedMaskNetwork(network)(latent), network(latent)) < 2e-6


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@torch.no_grad()
def test_fused_network_in_16_bits(kind: tuple[str, str]) -> None:
    network = make_network(*kind, shared=False, masks=True)
    fused = FusedMaskNetwork(network)
    latent = torch.randn(1, 12, 1500).relu()
    expected = network(latent)
    with torch.autocast("cpu", torch.bfloat16):
        actual = fused(latent)
    assert actual.dtype == torch.float32
    assert 1e-5 < error(actual, expected) < 0.02
    assert error(fused(latent), expected) < 2e-6  # 32 bits again


def test_window_norms_within_are_not_fused() -> None:
    for norm in ("window", "frame"):
        network = make_network(norm, "same", shared=True, masks=False)
        assert not can_fuse(network)


@pytest.mark.parametrize("norm", ["global", "batch"])
@pytest.mark.parametrize("trunk", ["per-source", "shared"])
@pytest.mark.parametrize("mask", ["softmax", "free"])
@torch.no_grad()
def test_models_separate_alike_with_it(norm: str, trunk: str, mask: str) -> None:
    torch.manual_seed(0)
    tcn = {"bottleneck_channels": 8, "hidden_channels": 16, "num_layers": 3, "norm": norm}
    settings = {"num_filters": 32, "trunk": trunk, "mask": mask, "tcn": tcn}
    model = build_model("sfi-conv-tasnet", settings).eval()
    fast = model.for_inference()
    assert any(isinstance(module, FusedMaskNetwork) for module in fast.modules())
    assert isinstance(model.masker, MaskNetwork)
    assert sum(p.numel() for p in fast.parameters()) == sum(p.numel() for p in model.parameters())
    for rate in (8000, 11025):
        mixture = torch.randn(1, 2, 3001)
        expected = model(mixture, sample_rate=rate)
        assert error(fast(mixture, sample_rate=rate), expected) < 1e-5
        assert error(copy.deepcopy(fast)(mixture, sample_rate=rate), expected) < 1e-5
    assert fast.for_inference() is fast
