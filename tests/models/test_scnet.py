"""SCNet against the original program's numbers, and at other rates than its own."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfisep_core.audio.stft import STFTConfig
from sfisep_core.errors import ConfigError
from sfisep_core.models.blocks import dual_path_rnn
from sfisep_core.models.blocks.scnet_bands import SCNetNetworkConfig, plan_bands
from sfisep_core.models.registry import build_model
from sfisep_core.models.scnet import SCNet, SCNetConfig
from sfisep_core.pretrained.scnet import rename_weights
from tests.models.parity import Fixture, difference

FIXTURES = ["scnet_small", "scnet_two_sources"]
TOLERANCE = 1e-5


def published(fixture: Fixture) -> SCNet:
    """Build the network of a fixture, as the original program runs it."""
    settings = fixture.constructor
    config = SCNetConfig(
        sources=tuple(settings["sources"]),
        stft=STFTConfig(
            n_fft=settings["nfft"],
            hop=settings["hop_size"],
            window="rectangular",
            scale="ortho" if settings["normalized"] else "none",
        ),
        gain_rule="none",
        network=SCNetNetworkConfig(
            channels=tuple(settings["dims"][1:]),
            band_shares=tuple(settings["band_SR"][:-1]),
            kernel_sizes=tuple(settings["band_kernel"]),
            strides=tuple(settings["band_stride"]),
            depths=tuple(settings["conv_depths"]),
            compression=settings["compress"],
            num_layers=settings["num_dplayer"],
            expansion=settings["expand"],
        ),
    )
    model = SCNet(config)
    model.load_state_dict(rename_weights(fixture.state()))
    return model.eval()


@pytest.mark.parametrize("name", FIXTURES)
@torch.no_grad()
def test_parity_with_the_original_program(name: str, shared_dir: Path) -> None:
    fixture = Fixture(shared_dir, name)
    model = published(fixture)
    assert (
        sum(parameter.numel() for parameter in model.parameters()) == (fixture.config["parameters"])
    )
    between: dict[str, Tensor] = {}

    def keep_encoded(_module: nn.Module, _given: object, output: tuple[Tensor, ...]) -> None:
        between["mid/encoder0"] = output[0]

    def keep_fused(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        # The original adds the skip in place to what was written down as the mixed features.
        between["mid/separation"] = given[0] + given[1]

    model.network.encoder[0].register_forward_hook(keep_encoded)
    model.network.decoder[0].register_forward_pre_hook(keep_fused)
    mixture = fixture.tensor("input/mixture")
    stems = model(mixture, sample_rate=model.native_rate)
    for stage, output in between.items():
        assert difference(output, fixture.tensor(stage)) < TOLERANCE
    assert len(between) == 2
    assert difference(stems, fixture.tensor("output/stems")) < TOLERANCE


# Any sampling frequency


def small(**settings: Any) -> SCNet:
    torch.manual_seed(0)
    model = build_model(
        "scnet",
        {
            "stft": {"n_fft": 512, "hop": 128, "window": "rectangular", "scale": "ortho"},
            "network": {"channels": [8, 12], "num_layers": 2},
            **settings,
        },
    )
    assert isinstance(model, SCNet)
    return model.eval()


def tones(length: int, sample_rate: int, *, level: float = 1.0) -> Tensor:
    """Sum tones below 4 kHz that swell and fade, different ones on two channels."""
    time = torch.arange(length, dtype=torch.float64) / sample_rate
    channels = [
        sum(torch.sin(2 * math.pi * hz * time + hz) for hz in frequencies)
        * torch.sin(math.pi * time / time[-1]) ** 2
        for frequencies in ((441.0, 1378.0, 2500.0), (523.0, 3100.0))
    ]
    return level * torch.stack(channels).float()[None]


def decibels(error: Tensor, reference: Tensor) -> float:
    power = error.double().square().sum() / reference.double().square().sum()
    return -10 * math.log10(max(power.item(), 1e-30))


class Spy(nn.Module):
    """Keep what a network is given; every source is the mixture."""

    def forward(self, parts: Tensor) -> Tensor:
        self.parts = parts
        return parts.unsqueeze(1).expand(-1, 4, -1, -1, -1)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 44100, 44101, 48000, 96000])
@torch.no_grad()
def test_number_of_frames_is_even_and_covers_the_signal(sample_rate: int) -> None:
    model = small()
    spy = model.network = Spy()  # type: ignore[assignment]
    hop = model.stft.hop(sample_rate)
    for length in (1, 2, 127, 128, 129, math.ceil(3 * hop), math.ceil(4 * hop), 5000):
        model(torch.randn(1, 2, length), sample_rate=sample_rate)
        frames = spy.parts.shape[-1]
        assert frames % 2 == 0
        # The last frame lies behind the signal, by less than three hops.
        assert 0 < (frames - 1) * hop - length + 1 <= 2 * hop + 1


@pytest.mark.parametrize("sample_rate", [8000, 11025, 22050, 48000])
@torch.no_grad()
def test_network_hears_the_same_at_every_rate(sample_rate: int) -> None:
    """Bins above half the rate hold the value of zeros, as at the native rate, and levels agree."""
    model, given = small(), []
    spy = model.network = Spy()  # type: ignore[assignment]
    for rate in (sample_rate, 44100):
        model(tones(rate, rate), sample_rate=rate)
        given.append(spy.parts)
    native = given[1][..., : given[0].shape[-1]]
    assert decibels(given[0] - native, native) > 25
    assert given[0].mean().abs() < 1e-4
    assert given[0].std().item() == pytest.approx(1, abs=1e-3)
    bins = 512 * sample_rate // (2 * 44100) + 1
    zero = given[0][:, :, bins:]
    assert zero.numel() == 0 or (zero == zero.flatten()[0]).all()


@pytest.mark.parametrize(
    ("sample_rate", "least"),
    # Where windows are no whole number of samples their edges lie up to a sample beside their place
    [(44100, 75), (22050, 75), (11025, 75), (8000, 30), (32000, 30), (48000, 30), (96000, 30)],
)
@torch.no_grad()
def test_what_passes_the_network_comes_back(sample_rate: int, least: float) -> None:
    model = small(gain_rule="none", beyond="drop")
    model.network = Spy()  # type: ignore[assignment]
    mixture = tones(sample_rate, sample_rate)
    stems = model(mixture, sample_rate=sample_rate)
    assert decibels(stems[:, 0] - mixture, mixture) > least


@pytest.mark.parametrize("sample_rate", [8000, 32000])
@torch.no_grad()
def test_a_resting_stem_takes_nothing_of_what_windows_lose(sample_rate: int) -> None:
    """The rest is silent: at these rates no band is lost that it would have to hold."""
    model = small()

    class Vocals(nn.Module):
        def forward(self, parts: Tensor) -> Tensor:
            return parts.unsqueeze(1) * torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1, 1, 1)

    model.network = Vocals()  # type: ignore[assignment]
    mixture = tones(sample_rate, sample_rate)
    stems = model(mixture, sample_rate=sample_rate)
    assert model.sources[0] == "vocals"
    assert decibels(stems[:, 3], mixture) > 50
    assert decibels(stems.sum(dim=1) - mixture, mixture) > 100


@torch.no_grad()
def test_band_above_training_goes_to_the_rest() -> None:
    model = small()
    time = torch.arange(48000) / 96000
    high = torch.sin(2 * math.pi * 30000 * time).repeat(1, 2, 1)
    stems = dict(zip(model.sources, model(high, sample_rate=96000)[0], strict=True))
    for name, stem in stems.items():
        level = decibels(stem[:, 4000:-4000], high[0, :, 4000:-4000])
        assert level == pytest.approx(0, abs=0.1) if name == "other" else level > 35


@pytest.mark.parametrize("level_db", [-120, -60, 0, 40])
@torch.no_grad()
def test_quiet_and_loud_music_is_separated_alike(level_db: int) -> None:
    model, level = small(gain_rule="none"), 10 ** (level_db / 20)
    expected = model(tones(22050, 22050), sample_rate=22050)
    stems = model(tones(22050, 22050, level=level), sample_rate=22050)
    assert decibels(stems / level - expected, expected) > 60


@torch.no_grad()
def test_sixteen_bits_agree() -> None:
    """Where a CPU has no LSTM of 16 bits the rest of the network has them."""
    model, mixture = small(), tones(22050, 22050)
    expected = model(mixture, sample_rate=22050)
    with torch.autocast("cpu", torch.bfloat16):
        stems = model(mixture, sample_rate=22050)
    assert stems.dtype == torch.float32
    assert 25 < decibels(stems - expected, expected) < 100


# Settings


def test_bands_of_the_published_network() -> None:
    """Kernels of 3, 4 and 16 with strides 1, 4 and 16: 2,049 bins become 616, 186 and 57."""
    plans = plan_bands(SCNetNetworkConfig(), 2049)
    assert [plan.bins for plan in plans] == [(359, 803, 887), (108, 242, 266), (33, 73, 80)]
    assert [plan.compressed for plan in plans] == [(359, 201, 56), (108, 61, 17), (33, 19, 5)]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"strides": [1, 4]}, "strides: expected 3 values, one for each band"),
        ({"kernel_sizes": [3, 2, 16]}, "at least as long as its stride, got 2 for a stride of 4"),
        ({"band_shares": [0.5, 0.5]}, "band_shares: expected a sum below 1, got 1.0"),
        ({"channels": [2]}, "each at least compression = 4, got"),
        ({"num_layers": 3}, "num_layers: expected an even number of 2 to 64, got 3"),
    ],
)
def test_sizes_must_fit(network: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model("scnet", {"network": network})


def test_every_band_needs_bins() -> None:
    with pytest.raises(ConfigError, match="expected bins for 3 bands in each of 3 encoder blocks"):
        build_model("scnet", {"stft": {"n_fft": 2, "hop": 1}})


@pytest.mark.parametrize("frames", [1, 10, 11])
def test_sequences_in_parts_are_the_same(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual_path_rnn, "_SEQUENCES_OF_A_THREAD", 3)
    torch.manual_seed(0)
    layer = dual_path_rnn.DualPathLayer(channels=8, expansion=2)
    features = torch.randn(2, 7, frames, 8)
    expected = layer(features)  # with gradients all sequences run at once
    with torch.no_grad():
        assert difference(layer(features), expected) < 1e-5
