import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sfisep_core.errors import ConfigError
from sfisep_core.models.deep_conv_sep import DeepConvSepNetwork, DeepConvSepNetworkConfig

# The published forms. Lasagne's as it was meant: there the fourth decoder was left unconnected.
LASAGNE = DeepConvSepNetworkConfig()
PAPER = replace(LASAGNE, frames=25, kernel_frames=12, num_horizontal=30)
KERAS = replace(PAPER, tied=False, activation="abs")
STEREO = DeepConvSepNetworkConfig(channels=2, num_horizontal=30, tied=False)
SMALL = DeepConvSepNetworkConfig(
    frames=8, kernel_frames=3, num_vertical=5, num_horizontal=4, num_features=6
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small_network(seed: int = 0, **settings: Any) -> DeepConvSepNetwork:
    """Give a network whose biases are not zero, in float64."""
    torch.manual_seed(seed)
    config = replace(SMALL, **settings)
    network = DeepConvSepNetwork(config, num_bins=17, num_sources=3).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


# Sizes


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (LASAGNE, 578_682),
        (KERAS, 489_142),
        (replace(KERAS, channels=2), 617_396),
        (STEREO, 678_536),
        # Both convolutions, with two biases each, both dense layers, and output biases.
        (PAPER, 50 * 515 + 30 * (50 * 12 + 2) + 128 * 421 + 4 * 420 * 129 + 4),
    ],
)
def test_number_of_parameters_is_the_published_one(
    config: DeepConvSepNetworkConfig, count: int
) -> None:
    with torch.device("meta"):
        network = DeepConvSepNetwork(config, num_bins=513, num_sources=4)
        magnitudes = torch.empty(2, config.channels, config.frames, 513)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert network(magnitudes).shape == (2, 4, config.channels, config.frames, 513)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_vertical": 0}, "num_vertical: expected 1 to 8192, got 0"),
        ({"kernel_frames": 9}, r"kernel_frames: expected at most network.frames \(8\), got 9$"),
        ({"channels": 3}, "channels: expected 1 or 2, got 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model setting network\.{message}"):
        replace(SMALL, **settings)


def test_weights_start_as_glorot_says() -> None:
    network = DeepConvSepNetwork(KERAS, num_bins=513, num_sources=4)
    # Uniform in +- sqrt(6 / (fan in + fan out)), of one source: they are independent of each other.
    for layer, fans in (
        (network.vertical, 513 + 50 * 513),
        (network.horizontal, 80 * 12),
        (network.bottleneck, 420 + 128),
        (network.expand, 420 + 128),
        (network.horizontal_back, 80 * 12),
        (network.vertical_back, 513 + 50 * 513),
    ):
        assert isinstance(layer, nn.Module)
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor)
        assert isinstance(bias, Tensor)
        assert weight.abs().max().item() == pytest.approx((6 / fans) ** 0.5, rel=1e-2)
        assert weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=3e-2)
        assert not bias.any()


# What it computes


def load_fixture(shared_dir: Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    path = shared_dir / "fixtures" / "seeds" / f"{name}.npz"
    if not path.is_file():
        pytest.skip("the parity data of published networks are not in the shared folder")
    data = np.load(path, allow_pickle=False)
    arrays = {key: torch.from_numpy(data[key]) for key in data.files if key != "config"}
    return json.loads(str(data["config"])), arrays


def join(
    state: Mapping[str, Tensor], network: DeepConvSepNetwork, names: Mapping[str, list[str]]
) -> None:
    """Load weights, those of several layers one after the other where one layer holds them."""
    network.load_state_dict(
        {
            f"{own}.{kind}": torch.cat([state[f"{layer}.{kind}"] for layer in layers])
            for own, layers in names.items()
            for kind in ("weight", "bias")
        }
    )


def largest_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


def test_stereo_form_is_the_published_one(shared_dir: Path) -> None:
    published, data = load_fixture(shared_dir, "deepconvsep_stereo")
    sizes = published["constructor"]
    config = replace(
        STEREO,
        frames=sizes["T"],
        num_vertical=sizes["conv1_filters"],
        num_horizontal=sizes["conv2_filters"],
        num_features=sizes["fc"],
    )
    network = DeepConvSepNetwork(config, num_bins=sizes["bins"], num_sources=4)
    sources = ("voice", "drums", "bass", "other")
    join(
        {key.removeprefix("state/"): value for key, value in data.items()},
        network,
        {
            "vertical": ["encoder.0"],
            "horizontal": ["encoder.1"],
            "bottleneck": ["layer_first.0"],
            "expand": [f"layer_{source}.0" for source in sources],
            "horizontal_back": [f"decode_{source}.0" for source in sources],
            "vertical_back": [f"decode_{source}.1" for source in sources],
        },
    )
    found = network(data["input/mixture"])[[0, 4]]
    assert largest_error(found.flatten(1, 2), data["output/raw"]) < 1e-5


@pytest.mark.parametrize("form", ["mono", "stereo"])
def test_keras_form_is_the_published_one(form: str, shared_dir: Path) -> None:
    published, data = load_fixture(shared_dir, f"deepconvsep_keras_{form}")
    sizes, sources = published["constructor"], published["source_order"]
    config = DeepConvSepNetworkConfig(
        frames=sizes["T"],
        kernel_frames=sizes["horizontal_kernel"][0],
        num_vertical=sizes["vertical_filters"],
        num_horizontal=sizes["horizontal_filters"],
        num_features=sizes["fc"],
        channels=sizes["channels"],
        tied=False,
        activation="abs",
    )
    network = DeepConvSepNetwork(config, num_bins=sizes["bins"], num_sources=4)
    # Published: flattened with the filters fastest; here with the frames fastest.
    order = torch.arange(14 * config.num_horizontal).view(14, -1).T.flatten()
    state = {}
    for key in (key.removesuffix("/kernel:0") for key in data if key.endswith("/kernel:0")):
        kernel, bias = data[f"{key}/kernel:0"], data[f"{key}/bias:0"]
        layer = key.removeprefix("state/")
        if kernel.dim() == 4:
            kernel = kernel.permute(3, 2, 0, 1)
        elif layer == "global_dense":
            kernel = kernel.T[:, order]
        else:
            kernel, bias = kernel.T[order], bias[order]
        state |= {f"{layer}.weight": kernel, f"{layer}.bias": bias}
    join(
        state,
        network,
        {
            "vertical": ["vertical_convolution"],
            "horizontal": ["horizontal_convolution"],
            "bottleneck": ["global_dense"],
            "expand": [f"single_dense_{source}" for source in sources],
            "horizontal_back": [f"horizontal_deconvolution_{source}" for source in sources],
            "vertical_back": [f"vertical_deconvolution_{source}" for source in sources],
        },
    )
    found = network(data["input/magnitude"].permute(0, 3, 1, 2)).permute(0, 1, 3, 4, 2)
    assert largest_error(found[:1], data["output/raw"]) < 1e-5
    assert largest_error(found[1:, :, :4], data["output/raw_item1_frames0_3"]) < 1e-5


@pytest.mark.parametrize("channels", [1, 2])
def test_tied_decoder_is_the_gradient_of_the_encoder(channels: int) -> None:
    network = small_network(channels=channels)
    magnitudes = noise(2, channels, 8, 17).abs()
    # A second forward pass, with the inverse of each convolution as the gradient of its input.
    first = network.vertical(magnitudes) + network.second_biases[0].view(-1, 1, 1)
    second = network.horizontal(first) + network.second_biases[1].view(-1, 1, 1)
    features = torch.relu(network.bottleneck(second.flatten(1)))
    expanded = torch.relu(network.expand(features)).view(2, 3, 4, 6, 1)
    found = network(magnitudes)
    for source in range(3):
        inner = torch.nn.grad.conv2d_input(
            (2, 5, 8, 1), network.horizontal.weight, expanded[:, source]
        )
        outer = torch.nn.grad.conv2d_input((2, channels, 8, 17), network.vertical.weight, inner)
        expected = torch.relu(outer + network.output_bias[source])
        assert expected.count_nonzero() > 20
        torch.testing.assert_close(found[:, source], expected)


@pytest.mark.parametrize("tied", [True, False])
def test_sources_are_made_from_the_same_features_by_decoders_of_their_own(tied: bool) -> None:
    network = small_network(tied=tied, activation="abs")
    magnitudes = noise(1, 1, 8, 17).abs()
    before = network(magnitudes)
    with torch.no_grad():
        network.expand.bias[: 4 * 6] += 1.0  # of the first source
    changed = (network(magnitudes) != before).flatten(2).any(dim=-1)
    assert changed.tolist() == [[True, False, False]]


def test_activations_are_what_they_say() -> None:
    magnitudes = noise(4, 1, 8, 17).abs()
    cut, folded = (
        small_network(activation=activation)(magnitudes) for activation in ("relu", "abs")
    )
    heard = cut > 0
    assert 0.1 < heard.double().mean() < 0.9
    assert torch.equal(cut[heard], folded[heard])
    assert (folded >= 0).all()
    assert (folded[~heard] > 0).any()


# Ranges


def test_ranges_of_bins_are_those_of_training() -> None:
    config = replace(SMALL, channels=2, tied=False, normalizes_bins=True)
    network = DeepConvSepNetwork(config, num_bins=17, num_sources=3).double()
    plain = DeepConvSepNetwork(
        replace(config, normalizes_bins=False), num_bins=17, num_sources=3
    ).double()
    plain.load_state_dict(network.state_dict(), strict=False)
    scale = torch.arange(1.0, 18.0, dtype=torch.float64)
    seen = scale * (1 + noise(5, 2, 8, 17, seed=1).abs())
    for batch in seen.split(2):
        network.train()(batch)
    network.eval()
    network(100 * seen)  # no training
    low, high = (limit(seen.transpose(1, 2).flatten(0, 1), 0) for limit in (torch.amin, torch.amax))
    low, high = low[:, None], high[:, None]  # (channel, 1, bin)
    magnitudes = scale * noise(2, 2, 8, 17).abs()
    expected = low + plain((magnitudes - low) / (high - low)) * (high - low)
    torch.testing.assert_close(network(magnitudes), expected)

    copy = DeepConvSepNetwork(config, num_bins=17, num_sources=3).double()
    copy.load_state_dict(network.state_dict())
    assert torch.equal(copy.eval()(magnitudes), network(magnitudes))


def test_bins_without_a_range_are_not_heard() -> None:
    network = small_network(normalizes_bins=True)
    seen = noise(3, 1, 8, 17).abs()
    seen[..., 16] = 2.0
    network.train()(seen)
    magnitudes = noise(1, 1, 8, 17, seed=1).abs()
    louder = magnitudes.clone()
    louder[..., 16] = 1e6
    assert torch.equal(network.eval()(louder), network(magnitudes))
    assert not torch.equal(network(2 * magnitudes), network(magnitudes))


def test_ranges_hold_what_is_finite_only() -> None:
    network = small_network(normalizes_bins=True)
    magnitudes = noise(2, 1, 8, 17).abs()
    assert network.eval()(magnitudes).isfinite().all()  # before training, too
    network.train()(magnitudes)
    kept = network.bin_range.clone()
    network(torch.full_like(magnitudes, torch.nan))
    network(torch.full_like(magnitudes, torch.inf))
    assert torch.equal(network.bin_range, kept)
