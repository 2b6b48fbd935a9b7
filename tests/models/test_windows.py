import numpy as np
import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks.windows import run_windows
from sfisep_core.models.deep_conv_sep import DeepConvSepNetwork, DeepConvSepNetworkConfig


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def small_network() -> DeepConvSepNetwork:
    torch.manual_seed(0)
    config = DeepConvSepNetworkConfig(
        frames=8, kernel_frames=3, num_vertical=5, num_horizontal=4, num_features=6, tied=False
    )
    return DeepConvSepNetwork(config, num_bins=17, num_sources=3).double()


@pytest.mark.parametrize("overlap", [0, 1, 4, 5, 7])
@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 16, 61])
def test_windows_add_up_to_one(length: int, overlap: int) -> None:
    magnitudes = noise(2, 2, length, 5).abs()
    windows = []

    def pass_on(window: Tensor) -> Tensor:
        windows.append(window.shape)
        return torch.stack([window, torch.ones_like(window)], dim=1)

    found = run_windows(pass_on, magnitudes, frames=8, overlap=overlap)
    assert found.shape == (2, 2, 2, length, 5)
    torch.testing.assert_close(found[:, 0], magnitudes)
    torch.testing.assert_close(found[:, 1], torch.ones_like(magnitudes))
    count = 1 + max(0, -(-(length - 8) // (8 - overlap)))
    assert windows == [(2 * count, 2, 8, 5)]  # all at once, and no more than are needed


@pytest.mark.parametrize("overlap", [0, 3, 4, 6])
def test_windows_are_cross_faded(overlap: int) -> None:
    network = small_network()
    magnitudes = noise(2, 1, 21, 17).abs()
    found = run_windows(network, magnitudes, frames=8, overlap=overlap)
    # A rise over the overlap, the same fall, and 1 between: the sum divided by that of the weights.
    ramp = np.minimum(1, np.arange(1, 9) / (overlap + 1))
    weight = np.minimum(ramp, ramp[::-1])
    total, weights = np.zeros((2, 3, 1, 40, 17)), np.zeros(40)
    for start in range(0, 21 - overlap, 8 - overlap):
        window = np.zeros((2, 1, 8, 17))
        part = magnitudes[:, :, start : start + 8].numpy()
        window[:, :, : part.shape[2]] = part
        output = network(torch.from_numpy(window)).detach().numpy()
        total[:, :, :, start : start + 8] += weight[:, None] * output
        weights[start : start + 8] += weight
    expected = total[..., :21, :] / weights[:21, None]
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_batches_may_be_empty() -> None:
    magnitudes = torch.zeros(0, 1, 21, 17, dtype=torch.float64)
    assert run_windows(small_network(), magnitudes, frames=8, overlap=3).shape == (0, 3, 1, 21, 17)


def test_gradients_reach_the_network_through_windows() -> None:
    network = small_network()
    magnitudes = noise(1, 1, 21, 17).abs().requires_grad_()
    found = run_windows(network, magnitudes, frames=8, overlap=5)
    (found * noise(*found.shape)).sum().backward()  # type: ignore[no-untyped-call]
    for parameter in (magnitudes, *network.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.any()


@pytest.mark.parametrize("overlap", [-1, 8])
def test_overlaps_that_do_not_fit_are_refused(overlap: int) -> None:
    with pytest.raises(ConfigError, match=f"expected an overlap of 0 to 7 frames, got {overlap}$"):
        run_windows(torch.relu, torch.zeros(1, 1, 20, 5), frames=8, overlap=overlap)
