from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.consistency import share_residual
from sfisep_core.models.blocks.moving_average import moving_average
from sfisep_core.models.blocks.norms import NormKind, WindowNorm, make_norm
from sfisep_core.models.blocks.tcn import MaskNetwork, TCNConfig
from sfisep_core.models.inference.folding import fold_batch_norms
from sfisep_core.models.registry import build_model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Moving average


@pytest.mark.parametrize("window", [1, 3, 7, 21, 101])
@pytest.mark.parametrize("length", [1, 2, 10, 40])
def test_moving_average_equals_a_loop(window: int, length: int) -> None:
    signal = noise(2, 3, length)
    half = window // 2
    expected = torch.stack(
        [signal[..., max(0, i - half) : i + half + 1].mean(dim=-1) for i in range(length)], dim=-1
    )
    average = moving_average(signal, window)
    assert average.dtype == torch.float32
    torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-6)


def test_moving_average_of_nothing_is_nothing() -> None:
    assert moving_average(torch.zeros(2, 3, 0), 5).shape == (2, 3, 0)


def test_moving_average_hears_quiet_parts_after_loud_ones() -> None:
    signal = torch.ones(1, 1, 400_000)
    signal[..., 200_000:] = 1e-6
    average = moving_average(signal, 401)
    torch.testing.assert_close(average[..., 200_201:], signal[..., 200_201:], rtol=1e-4, atol=0)


# Norms


def naive_window_norm(features: Tensor, *, groups: int, window: int) -> Tensor:
    batch, channels, frames = features.shape
    normal = torch.empty_like(features)
    size = channels // groups
    for b in range(batch):
        for group in range(groups):
            rows = slice(group * size, (group + 1) * size)
            for m in range(frames):
                seen = features[b, rows, max(0, m - window // 2) : m + window // 2 + 1].double()
                scale = torch.sqrt(seen.var(correction=0) + 1e-8)
                normal[b, rows, m] = ((features[b, rows, m] - seen.mean()) / scale).float()
    return normal


@pytest.mark.parametrize("window", [1, 3, 9, 61])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_window_norm_equals_a_loop(window: int, groups: int) -> None:
    features = 3 * noise(2, 12, 25) + 0.5
    norm = WindowNorm(12, groups=groups, window=window)
    with torch.no_grad():
        norm.weight.copy_(noise(12, seed=1))
        norm.bias.copy_(noise(12, seed=2))
    expected = naive_window_norm(features, groups=groups, window=window)
    expected = expected * norm.weight[:, None] + norm.bias[:, None]
    torch.testing.assert_close(norm(features), expected, rtol=1e-4, atol=2e-5)


def test_window_of_one_frame_is_a_layer_norm() -> None:
    features = noise(2, 12, 30)
    expected = nn.functional.layer_norm(features.transpose(1, 2), (12,), eps=1e-8).transpose(1, 2)
    for norm in (
        WindowNorm(12, groups=1, window=1),
        make_norm("frame", 12, networks=1, norm_groups=8, window=201),
    ):
        torch.testing.assert_close(norm(features), expected, rtol=1e-5, atol=1e-6)


def test_window_beyond_the_signal_is_a_group_norm() -> None:
    features = noise(2, 12, 30)
    wide = make_norm("window", 12, networks=4, norm_groups=8, window=61)(features)
    expected = nn.functional.group_norm(features, 4, eps=1e-8)
    torch.testing.assert_close(wide, expected, rtol=1e-5, atol=1e-6)


def test_window_norm_survives_offsets_and_silence() -> None:
    norm = WindowNorm(6, groups=1, window=9)
    plain = noise(1, 6, 50)
    # float32 statistics of values around 100 have seven digits, their square five behind the point
    torch.testing.assert_close(norm(plain + 100), norm(plain), rtol=0, atol=5e-3)
    assert (norm(torch.zeros(1, 6, 50)) == 0).all()
    assert norm(torch.zeros(1, 6, 0)).shape == (1, 6, 0)


@pytest.mark.parametrize("kind", ["global", "frame", "window"])
def test_norms_keep_networks_apart(kind: NormKind) -> None:
    norm = make_norm(kind, 16, networks=2, norm_groups=2, window=5)
    features = noise(2, 16, 20)
    changed = features.clone()
    changed[:, 8:] *= 7
    assert torch.equal(norm(features)[:, :8], norm(changed)[:, :8])


def test_global_norm_has_the_published_groups() -> None:
    norm = make_norm("global", 64, networks=4, norm_groups=8, window=5)
    assert isinstance(norm, nn.GroupNorm)
    assert (norm.num_groups, norm.eps) == (32, 1e-8)
    assert isinstance(make_norm("batch", 4, networks=1, norm_groups=1, window=1), nn.BatchNorm1d)


def test_sizes_that_do_not_fit_are_refused() -> None:
    for window in (0, -3, 4):
        with pytest.raises(ConfigError, match=f"odd number of frames of at least 1, got {window}"):
            WindowNorm(4, groups=1, window=window)
    for groups in (0, 3):
        with pytest.raises(ConfigError, match=f"8 channels of a network .* norm_groups = {groups}"):
            make_norm("global", 16, networks=2, norm_groups=groups, window=1)
    for setting in ("bottleneck_channels", "hidden_channels", "num_layers", "num_stacks"):
        with pytest.raises(ConfigError, match=f"tcn.{setting}: expected 1 to .*, got 0: leave it"):
            TCNConfig(**{setting: 0})  # type: ignore[arg-type]
    for kernel_size in (0, 2):
        message = (
            f"kernel_size: expected an odd number of 1 to 129, got {kernel_size}: leave it out"
        )
        with pytest.raises(ConfigError, match=message):
            TCNConfig(kernel_size=kernel_size)


# The mask network


def test_a_mask_network_of_ones_by_hand() -> None:
    # One channel everywhere, 1x1 convolutions of weight 1, depthwise kernels 1 1 1, and frame
    # norms that give their bias (a single channel is its own mean).
    config = TCNConfig(1, 1, num_layers=2, num_stacks=1, norm="frame")
    network = MaskNetwork(config, num_features=1, num_sources=1, networks=1, softmax=False)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.fill_(1.0 if "conv" in name or "norm" in name else 0.25)
            if any(part in name for part in ("depthwise", "residual", "skip")):
                parameter.fill_(1.0)
        network.conv_out.bias.fill_(0.5)  # type: ignore[union-attr]
    raw = network(torch.full((1, 1, 5), 3.0))
    # every norm gives 1; skip sum 1 + 1 -> norm_3 gives 1 -> conv_out 1 + 0.5
    torch.testing.assert_close(raw, torch.full((1, 1, 1, 5), 1.5))


def test_receptive_field_of_a_mask_network() -> None:
    config = TCNConfig(4, 4, num_layers=3, num_stacks=2, norm="frame")
    torch.manual_seed(0)
    network = MaskNetwork(config, num_features=4, num_sources=2, networks=1, softmax=False)
    features = noise(1, 4, 80).requires_grad_()
    network(features)[..., 40].sum().backward()
    assert features.grad is not None
    heard = features.grad.abs().sum(dim=(0, 1)).nonzero().flatten()
    reach = 2 * (1 + 2 + 4)
    assert (heard.min().item(), heard.max().item()) == (40 - reach, 40 + reach)


def test_grouped_networks_are_independent() -> None:
    config = TCNConfig(8, 8, num_layers=2, num_stacks=1, norm_groups=2)
    torch.manual_seed(0)
    network = MaskNetwork(config, num_features=6, num_sources=3, networks=3, softmax=True)
    network.softmax = False  # which compares them
    features = noise(2, 6, 20)
    before = network(features)
    with torch.no_grad():
        network.conv_in.weight[8:16] += 1  # the second network's
    after = network(features)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert (before[:, 1] != after[:, 1]).any()


# Mixture consistency


def test_shared_residual_makes_the_sum_exact() -> None:
    estimates, mixture = noise(2, 4, 2, 3000), noise(2, 2, 3000, seed=1)
    shared = share_residual(estimates, mixture, sample_rate=8000)
    torch.testing.assert_close(shared.sum(dim=1), mixture, rtol=0, atol=2e-6)
    assert shared.shape == estimates.shape
    assert share_residual(estimates[0], mixture[0], sample_rate=8000).equal(shared[0])


def test_shares_are_by_energy() -> None:
    # Two stems of constant amplitude 1 and 2 share a residual of 10 as 1 : 4.
    estimates = torch.tensor([1.0, -2.0]).view(2, 1, 1).expand(2, 1, 2000)
    mixture = torch.full((1, 2000), 9.0)
    shared = share_residual(estimates, mixture, sample_rate=8000)
    torch.testing.assert_close(shared[:, 0, 777], torch.tensor([3.0, 6.0]))
    assert (shared - shared[..., :1]).abs().max() < 1e-5


def test_silent_stems_stay_silent() -> None:
    estimates = noise(3, 1, 4000)
    estimates[1] = 0
    estimates[2, :, :2000] = 0  # silent for the first half: 50 ms away from the rest at 8 kHz
    shared = share_residual(estimates, noise(1, 4000, seed=1), sample_rate=8000)
    # what share the floor leaves them is 600 dB down
    assert shared[1].abs().max() < 1e-28
    assert shared[2, :, : 2000 - 200].abs().max() < 1e-28
    assert (shared[2, :, 2000:] != estimates[2, :, 2000:]).any()


def test_stems_that_are_silent_after_sound_stay_silent() -> None:
    estimates = noise(2, 1, 8000)
    estimates[1, :, 4000:] = 0
    shared = share_residual(estimates, noise(1, 8000, seed=1), sample_rate=8000)
    assert shared[1, :, 4201:].abs().max() < 1e-28


def test_mixture_is_shared_equally_where_nothing_is_estimated() -> None:
    mixture = noise(1, 500)
    shared = share_residual(torch.zeros(4, 1, 500), mixture, sample_rate=8000)
    torch.testing.assert_close(shared, (mixture / 4).expand(4, 1, 500))


def test_quiet_parts_after_loud_ones_are_shared_by_their_own_energy() -> None:
    # 60 dB down after 20 s at 32 kHz, with the stems' roles exchanged.
    length = 640_000
    estimates = torch.ones(2, 1, 2 * length)
    estimates[1] = 3
    estimates[0, :, length:] = 3e-3
    estimates[1, :, length:] = 1e-3
    mixture = estimates.sum(dim=0) * 2
    shared = share_residual(estimates, mixture, sample_rate=32000)
    quiet = shared[:, 0, length + 1000 :]
    expected = torch.tensor([3e-3 + 0.9 * 4e-3, 1e-3 + 0.1 * 4e-3])
    torch.testing.assert_close(quiet, expected[:, None].expand_as(quiet), rtol=1e-3, atol=0)


def test_sharing_depends_on_fifty_milliseconds_only() -> None:
    estimates, mixture = noise(2, 1, 4000), noise(1, 4000, seed=1)
    whole = share_residual(estimates, mixture, sample_rate=8000)
    part = share_residual(estimates[..., 1000:3000], mixture[..., 1000:3000], sample_rate=8000)
    torch.testing.assert_close(part[..., 201:-201], whole[..., 1201:2799], rtol=0, atol=1e-5)
    assert not torch.allclose(part[..., :50], whole[..., 1000:1050], atol=1e-3)


# Folding


def batch_norm_model(trunk: str, mask: str) -> nn.Module:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "num_filters": 24,
        "trunk": trunk,
        "mask": mask,
        "tcn": {
            "bottleneck_channels": 8,
            "hidden_channels": 12,
            "num_layers": 3,
            "num_stacks": 2,
            "norm": "batch",
        },
    }
    model = build_model("sfi-conv-tasnet", settings)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3.0)
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias)
    if mask == "free":
        nn.init.normal_(model.masker.conv_out.bias)  # type: ignore[union-attr, arg-type]
    return model


@pytest.mark.parametrize("trunk", ["per-source", "shared"])
@pytest.mark.parametrize("mask", ["softmax", "free"])
@torch.no_grad()
def test_folded_batch_norms_give_the_same_output(trunk: str, mask: str) -> None:
    model = batch_norm_model(trunk, mask)
    folded = fold_batch_norms(model)
    assert model.training
    assert not folded.training
    mixture = noise(1, 2, 3000)
    expected = model.eval()(mixture, sample_rate=8000)
    actual = folded(mixture, sample_rate=8000)
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()

    def norms(module: nn.Module) -> int:
        return sum(isinstance(part, nn.BatchNorm1d) for part in module.modules())

    # norm_1, norm_3 and one of two in each of 6 layers are gone; the original keeps all
    before = 3 + 12 + (mask == "softmax")
    assert (norms(model), norms(folded)) == (before, before - 8)


@torch.no_grad()
def test_norms_before_zero_padding_are_not_folded() -> None:
    folded = fold_batch_norms(batch_norm_model("shared", "free"))
    layer: Any = folded.get_submodule("masker.layers.0")
    assert isinstance(layer.norm_1, nn.BatchNorm1d)
    assert isinstance(layer.norm_2, nn.Identity)
    assert layer.residual.bias is not None
    assert layer.depthwise.bias is None


@torch.no_grad()
def test_other_norms_are_left_alone() -> None:
    config = TCNConfig(4, 4, num_layers=1, num_stacks=1, norm="frame")
    network = MaskNetwork(config, num_features=4, num_sources=2, networks=1, softmax=True)
    folded = fold_batch_norms(network)
    assert folded is not network
    features = noise(1, 4, 9)
    assert torch.equal(folded(features), network(features))
    assert folded.state_dict().keys() == network.state_dict().keys()
