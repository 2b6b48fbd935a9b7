from pathlib import Path

import pytest
import torch

from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.strided_unet import StridedUNet, StridedUNetConfig
from tests.models.parity import Fixture, difference, load_renamed

COMPLEX = (16, 256, 1024)
SMALL = StridedUNetConfig(channels=(2, 3, 4))


def told(sources: int = 4) -> torch.Tensor:
    return torch.eye(sources)


# Sizes: published as trainable parameters


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (StridedUNetConfig(), 9_823_315),
        (StridedUNetConfig(control="dense"), 9_844_847),
        (StridedUNetConfig(control="dense", film="complex", control_widths=COMPLEX), 12_159_875),
        (StridedUNetConfig(control="cnn", control_widths=(16, 32, 64)), 9_834_703),
        (
            StridedUNetConfig(control="cnn", film="complex", control_widths=(32, 64, 256)),
            10_416_275,
        ),
    ],
)
def test_number_of_parameters_is_the_published_one(config: StridedUNetConfig, count: int) -> None:
    with torch.device("meta"):
        network = StridedUNet(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize(
    ("name", "control", "film"),
    [
        ("jansson_unet", "none", "simple"),
        ("cunet_simple_dense", "dense", "simple"),
        ("cunet_complex_dense", "dense", "complex"),
        ("cunet_complex_cnn", "cnn", "complex"),
    ],
)
@torch.no_grad()
def test_same_numbers_as_the_specification(
    shared_dir: Path, name: str, control: str, film: str
) -> None:
    fixture = Fixture(shared_dir, name)
    channels = fixture.constructor["channels"]
    widths = tuple(fixture.constructor.get("control_widths", (16, 64, 256)))
    network = StridedUNet(
        StridedUNetConfig(tuple(channels), control, film, widths)  # type: ignore[arg-type]
    ).eval()
    last = len(channels) - 1
    names = {
        rf"^encoder\.{last}\.": "unet.middle.down.",
        r"^decoder\.0\.": "unet.middle.up.",
        **{rf"^decoder\.{i}\.": f"unet.decoders.{i - 1}." for i in range(1, last + 1)},
        r"^encoder\.": "unet.encoders.",
        r"\.(de)?conv\.": ".convolution.",
    }
    if control == "dense":
        places = {"0": 0, "1": 2, "2": 6}
        names |= {rf"^control\.{i}\.bn\.": f"control.{k + 3}." for i, k in places.items()}
        names |= {rf"^control\.{i}\.(weight|bias)$": rf"CONTROL.{k}.\1" for i, k in places.items()}
        names |= {"^CONTROL": "control"}
    else:
        names |= {rf"^control\.{i}\.bn\.": f"control.norms.{i - 1}." for i in (1, 2)}
        names |= {r"^control\.(\d)\.(weight|bias)$": r"control.convolutions.\1.\2"}
    names |= {r"\.bn\.": ".norm."}
    state = {
        key: value.transpose(-1, -2) if value.dim() == 4 else value  # ours has frames first
        for key, value in fixture.state().items()
    }
    load_renamed(network, state, names)
    magnitudes = fixture.tensor("input/magnitude").transpose(-1, -2)
    conditions = None
    if control != "none":
        conditions = fixture.tensor("input/condition")
        magnitudes = magnitudes.expand(len(conditions), -1, -1, -1)
    estimate = magnitudes * network(magnitudes, conditions)
    expected = fixture.tensor("output/estimate").transpose(-1, -2)
    assert difference(estimate, expected) < 1e-5


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 23])
@torch.no_grad()
def test_any_number_of_frames(frames: int) -> None:
    network = StridedUNet(SMALL).eval()
    assert network(torch.rand(2, 1, frames, 16)).shape == (2, 1, frames, 16)


@pytest.mark.parametrize("control", ["none", "dense", "cnn"])
def test_gradient_reaches_every_parameter(control: str) -> None:
    torch.manual_seed(0)
    config = StridedUNetConfig((2, 3, 4), control, "complex", (8, 8, 8))  # type: ignore[arg-type]
    network = StridedUNet(config)
    (network(torch.rand(4, 1, 16, 16), told()) * torch.rand(4, 1, 16, 16)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # A norm takes out what a bias before it adds.
        assert parameter.grad.any() or name.endswith("bias"), name


@pytest.mark.parametrize("film", ["simple", "complex"])
@torch.no_grad()
def test_conditions_matter_and_do_not_mix(film: str) -> None:
    torch.manual_seed(0)
    config = StridedUNetConfig((2, 3, 4), "dense", film, (8, 8, 8))  # type: ignore[arg-type]
    network = StridedUNet(config).eval()
    for parameter in network.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    magnitudes = torch.rand(1, 1, 16, 16).expand(4, -1, -1, -1)
    masks = network(magnitudes, told())
    for i in range(4):
        alone = network(magnitudes[:1], told()[i : i + 1])
        torch.testing.assert_close(masks[i : i + 1], alone)
        assert not torch.allclose(masks[i], masks[i - 1], atol=1e-4)


def test_sizes_are_checked() -> None:
    with pytest.raises(ConfigError, match="expected the channels of 2 to 12 levels, got 1"):
        StridedUNetConfig(channels=(4,))
    with pytest.raises(ConfigError, match="expected three widths, got \\[4, 4\\]"):
        StridedUNetConfig(control_widths=(4, 4))
