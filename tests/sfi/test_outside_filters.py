"""A kind of analog filter that the package does not know, through public members alone."""

import math
from collections.abc import Iterator
from typing import Self

import pytest
import torch
from torch import Tensor, nn

from sfisep_core.errors import ConfigError
from sfisep_core.models.registry import build_model
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNet
from sfisep_core.pretrained.model_files import load_model, save_model
from sfisep_core.sfi import FILTERS, AnalogFilters, FilterSettings, SFIConv1d, SFIConvTranspose1d
from sfisep_core.sfi.analog_filters import erb_spaced
from sfisep_core.sfi.layers import Design

_WIDTH = 400.0  # Hz
_RATES = (8000, 11025, 32000, 44100)


class SincFilters(AnalogFilters):
    """Ideal band-pass filters: h(t) = 2 B sinc(B t) cos(2 pi f t + phi), |H| = 1 in the band."""

    def __init__(self, centers: Tensor) -> None:
        super().__init__()
        self.middle = nn.Parameter(centers.float())
        self.width = nn.Parameter(torch.full_like(self.middle, _WIDTH))
        self.angle = nn.Parameter(torch.linspace(0, 1, len(centers)))

    @classmethod
    def from_settings(cls, settings: FilterSettings) -> Self:
        """Space the centres equally on the ERB-rate scale."""
        return cls(
            erb_spaced(
                lowest_hz=settings.lowest_hz,
                highest_hz=settings.highest_hz,
                count=settings.num_filters,
            )
        )

    @property
    def num_filters(self) -> int:
        """Number of filters."""
        return len(self.middle)

    def centers_hz(self) -> Tensor:
        """Compute the centre frequencies in Hz."""
        return self.middle.double()

    def bandwidths_hz(self) -> Tensor:
        """Compute the bandwidths in Hz."""
        return self.width.double()

    def impulse_response(self, time: Tensor) -> Tensor:
        """Evaluate h(t)."""
        middle, width, angle = self._columns(time)
        carrier = torch.cos(2 * math.pi * middle * time + angle)
        return 2 * width * torch.sinc(width * time) * carrier

    def frequency_response(self, angular_frequency: Tensor) -> Tensor:
        """Evaluate H(w)."""
        middle, width, angle = self._columns(angular_frequency)
        hertz = angular_frequency / (2 * math.pi)
        above = ((hertz - middle).abs() <= width / 2).double()
        below = ((hertz + middle).abs() <= width / 2).double()
        return torch.polar(above, angle) + torch.polar(below, -angle)

    def _columns(self, argument: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        middle, width, angle = (
            p.double().view(-1, *[1] * argument.dim())
            for p in (self.middle, self.width, self.angle)
        )
        return middle, width, angle


class DecayingFilters(SincFilters):
    """One-sided filters without a known frequency response, and without parameters."""

    causal = True
    frequency_response = AnalogFilters.frequency_response

    def __init__(self, centers: Tensor) -> None:
        super().__init__(centers)
        for name in ("middle", "width", "angle"):
            value = getattr(self, name).detach()
            delattr(self, name)
            self.register_buffer(name, value)

    def impulse_response(self, time: Tensor) -> Tensor:
        """Evaluate h(t)."""
        middle, width, angle = self._columns(time)
        decay = torch.exp(-width * time.clamp_min(0)) * (time >= 0)
        return decay * torch.cos(2 * math.pi * middle * time + angle)


def sincs(count: int = 6) -> SincFilters:
    return SincFilters.from_settings(FilterSettings(count, lowest_hz=500, highest_hz=3000))


def response(taps: Tensor, sample_rate: int, hertz: Tensor) -> Tensor:
    """Compute the magnitudes of a set of taps, shape (filter, frequency)."""
    steps = torch.arange(taps.shape[-1]).double() / sample_rate
    return (taps.double() + 0j).matmul(torch.exp(-2j * math.pi * torch.outer(steps, hertz))).abs()


def windowed_response(filters: AnalogFilters, hertz: Tensor, center: float = 0.0) -> Tensor:
    """Compute the magnitudes of h cut to 5 ms, by the trapezoidal rule."""
    time = torch.linspace(-0.0025, 0.0025, 20001, dtype=torch.float64)
    values = filters.impulse_response(time + center) + 0j
    tones = torch.exp(-2j * math.pi * time.unsqueeze(1) * hertz)
    return torch.trapezoid(values.unsqueeze(-1) * tones, time, dim=1).abs()


@pytest.fixture
def known() -> Iterator[None]:
    """Let settings name the filters of this file."""
    FILTERS["sinc"] = SincFilters
    yield
    del FILTERS["sinc"]


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", _RATES)
@pytest.mark.parametrize("design", ["time", "frequency"])
@torch.no_grad()
def test_exact_taps_respond_as_the_cut_filter(design: Design, sample_rate: int) -> None:
    filters, hertz = sincs(), torch.linspace(100, 0.45 * 8000, 50, dtype=torch.float64)
    layer = SFIConv1d(1, 6, filters, design=design)
    scale = 1 / 32000 if design == "time" else 1.0  # time-domain taps are h, not h / F0
    expected = windowed_response(filters, hertz)
    for taps in layer.taps(sample_rate):
        actual = scale * response(taps, sample_rate, hertz)
        # 5 ms of a band 400 Hz wide hold 90 % of its gain
        assert 0.8 < expected.max() < 1.3
        torch.testing.assert_close(actual, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("sample_rate", [16000, 32000, 48000])
@torch.no_grad()
def test_published_time_domain_taps_are_samples_in_reverse(sample_rate: int) -> None:
    filters = sincs()
    taps = SFIConv1d(1, 6, filters, design="time", alignment="release").taps(sample_rate)[0]
    time = (torch.arange(taps.shape[1]).double() - (taps.shape[1] - 1) / 2) / sample_rate
    expected = filters.impulse_response(time).flip(-1)
    torch.testing.assert_close(taps.double(), expected, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("sample_rate", [16000, 32000])
@torch.no_grad()
def test_published_frequency_domain_taps_fit_the_response(sample_rate: int) -> None:
    filters = sincs()
    taps = SFIConv1d(1, 6, filters, design="frequency", alignment="release").taps(sample_rate)[0]
    hertz = torch.linspace(100, 4000, 50, dtype=torch.float64)
    # The fit of taps that last 5 ms is the response of the cut filter, to the accuracy with which
    # samples 12.5 or 25 Hz apart know where a band of 400 Hz ends.
    torch.testing.assert_close(
        response(taps, sample_rate, hertz), windowed_response(filters, hertz), rtol=0, atol=0.07
    )


@torch.no_grad()
def test_cached_taps_follow_parameters_of_any_name() -> None:
    layer = SFIConv1d(1, 6, sincs(), design="frequency").eval()
    before = layer.taps(8000)
    assert layer.taps(8000) is before
    layer.filters.get_parameter("width").data.mul_(2)
    assert not torch.equal(layer.taps(8000), before)


@torch.no_grad()
def test_filters_without_parameters_or_frequency_response() -> None:
    filters = DecayingFilters(torch.tensor([500.0, 1000.0]))
    layer = SFIConv1d(1, 2, filters, design="time").double().eval()
    assert layer.taps(8000) is layer.taps(8000)
    assert layer.taps(8000).dtype == torch.float64
    hertz = torch.linspace(100, 3000, 30, dtype=torch.float64)
    expected = windowed_response(filters, hertz, center=161 / 64000)
    torch.testing.assert_close(
        response(layer.taps(16000)[0], 16000, hertz) / 32000,
        expected,
        rtol=0,
        atol=0.01 * expected.max().item(),
    )
    with pytest.raises(ConfigError, match="frequency response, got DecayingFilters"):
        SFIConv1d(1, 2, filters, design="frequency")
    with pytest.raises(ConfigError, match="which DecayingFilters does not have"):
        filters.frequency_response(hertz)


@pytest.mark.parametrize("alignment", ["exact", "release"])
@pytest.mark.parametrize("design", ["time", "frequency"])
@torch.no_grad()
def test_both_convolutions_reconstruct_a_tone(design: Design, alignment: str) -> None:
    """One filter around the tone, encoded and decoded: the tone comes back, scaled."""
    settings = {"design": design, "alignment": alignment}
    one = SincFilters(torch.tensor([1000.0]))
    one.angle.zero_()
    encoder = SFIConv1d(1, 1, one, **settings)  # type: ignore[arg-type]
    decoder = SFIConvTranspose1d(1, 1, one, **settings)  # type: ignore[arg-type]
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(16000) / 16000).view(1, 1, -1)
    frames = encoder(tone, sample_rate=16000)
    again = decoder(frames, sample_rate=16000, length=16000)[0, 0, 1000:-1000]
    tone = tone[0, 0, 1000:-1000]
    share = (again @ tone) ** 2 / (again.square().sum() * tone.square().sum())
    assert frames.shape == (1, 1, 400)
    assert share > 0.2  # frames 2.5 ms apart fold the tone; what is left of it is in phase


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("mask", ["softmax", "free"])
@pytest.mark.parametrize("design", ["time", "frequency"])
def test_a_model_separates_learns_and_is_stored(
    design: str, mask: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    torch.manual_seed(0)
    tcn = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 2, "num_stacks": 1}
    settings = {"filters": "sinc", "design": design, "num_filters": 16, "mask": mask, "tcn": tcn}
    model = build_model("sfi-conv-tasnet", settings)
    assert isinstance(model, SFIConvTasNet)
    mixture = torch.randn(1, 2, 4000)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        stems = model(mixture, sample_rate=11025)
        loss = (stems - 0.25 * mixture.unsqueeze(1)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for layer in (model.encoder, model.decoder):
        for name, parameter in layer.filters.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
    assert losses[-1] < losses[0]

    path = tmp_path_factory.mktemp("model") / "sinc.safetensors"
    save_model(model, path)
    loaded = load_model(path)
    with torch.no_grad():
        expected = model.eval()(mixture, sample_rate=8000)
        assert torch.equal(loaded(mixture, sample_rate=8000), expected)
        fast = loaded.for_inference()(mixture, sample_rate=8000)
        torch.testing.assert_close(fast, expected, rtol=1e-4, atol=1e-5 * expected.abs().max())


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"expected one of modulated-gaussian, .*, got 'sinc'"):
        build_model("sfi-conv-tasnet", {"filters": "sinc"})
