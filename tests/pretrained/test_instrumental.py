"""The initial network for drums, bass and other has a narrower bottleneck."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfisep_core.models.blocks.spleeter_unet import SpleeterUNetConfig
from sfisep_core.models.spleeter import Spleeter, SpleeterConfig
from sfisep_core.pretrained.instrumental import instrumental_config, instrumental_weights

MIDDLE = "network.networks.0.unet.middle."
KERNELS = [MIDDLE + name for name in ("down.convolution.weight", "up.convolution.weight")]
BIAS = MIDDLE + "down.convolution.bias"


def networks(inner: int, *, used: int, outer: int = 8) -> tuple[Spleeter, Spleeter]:
    """A network for one source that uses some of its innermost channels, and what is made of it."""
    torch.manual_seed(0)
    network = SpleeterUNetConfig(channels=(2, outer, inner))
    one = Spleeter(SpleeterConfig(masks="complement", network=network)).eval()
    torch.nn.init.normal_(one.state_dict()[BIAS], std=0.1)
    one.state_dict()[KERNELS[1]][used:] = 0.0
    config = instrumental_config(replace(one.config, masks="ratio"))
    three = Spleeter(config).eval()
    three.load_state_dict(instrumental_weights(one.state_dict(), config))
    return one, three


def product(model: Spleeter) -> Tensor:
    """Both kernels as one matrix: from the input's values and 1 to the output's."""
    state = model.state_dict()
    down, up = (state[name].double().flatten(1) for name in KERNELS)
    return up.T @ torch.cat([down, state[BIAS].double()[:, None]], dim=1)


@pytest.mark.parametrize("inner", [32, 140])
@torch.no_grad()
def test_what_fits_is_kept(inner: int) -> None:
    one, three = networks(inner, used=100)
    assert three.config.network.channels == (2, 8, min(inner, 128))
    names = (*KERNELS, BIAS)
    assert all(three.state_dict()[name].equal(one.state_dict()[name]) for name in names) == (
        inner == 32
    )
    features = torch.randn(1, 8, 32, 32)
    middles = [model.network.networks[0].unet.middle for model in (one, three)]
    expected, found = (one.up.convolution(one.down(features)) for one in middles)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_of_more_the_best_approximation_is_kept() -> None:
    one, three = networks(200, used=200)
    sizes = torch.linalg.svdvals(product(one))
    lost = (product(three) - product(one)).square().sum()
    torch.testing.assert_close(lost, sizes[128:].square().sum(), atol=0, rtol=1e-4)
    assert 0.001 < lost / sizes.square().sum() < 0.3


def test_no_more_channels_than_the_kernels_have_ranks() -> None:
    _, three = networks(200, used=200, outer=3)
    assert three.config.network.channels == (2, 3, 75)
