import pytest
import torch

from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet, SFIConvTasNetConfig, TCNConfig
from tests.benchmarks.released_way import ReleasedWay


@pytest.mark.parametrize("sample_rate", [8000, 16000, 32000])
def test_released_way_gives_what_the_model_gives(sample_rate: int) -> None:
    torch.manual_seed(0)
    tcn = TCNConfig(bottleneck_channels=16, hidden_channels=16, num_layers=3)
    model = SFIConvTasNet(SFIConvTasNetConfig(num_filters=48, alignment="release", tcn=tcn)).eval()
    signal = torch.randn(sample_rate)
    with torch.no_grad():
        expected = model(signal[None, None], sample_rate=sample_rate)[0, :, 0]
        found = ReleasedWay(model).estimate(signal, sample_rate)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
