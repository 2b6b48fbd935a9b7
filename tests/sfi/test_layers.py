import copy
import pickle
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from sfisep_core.errors import ConfigError
from sfisep_core.sfi import (
    ModulatedGaussianFilters,
    MultiPhaseGammatoneFilters,
    SFIConv1d,
    SFIConvTranspose1d,
)
from sfisep_core.sfi.analog_filters import make_filters
from sfisep_core.sfi.filter_bank import AnalogFilters, FilterSettings
from sfisep_core.sfi.frame_grid import Alignment
from sfisep_core.sfi.layers import Design

Kind = Literal["frequency", "time", "gammatone"]
KINDS: tuple[Kind, ...] = ("frequency", "time", "gammatone")


def bank(kind: Kind, count: int) -> AnalogFilters:
    torch.manual_seed(7)
    if kind == "gammatone":
        return MultiPhaseGammatoneFilters(count, num_centers=count // 2, highest_hz=3500)
    return ModulatedGaussianFilters(count, highest_hz=3500)


def layers(
    kind: Kind,
    channels: int = 4,
    *,
    signal_channels: int = 1,
    alignment: Alignment = "exact",
    native_rate: int = 32000,
    kernel_size: int = 160,
    stride: int = 80,
) -> tuple[SFIConv1d, SFIConvTranspose1d]:
    """Make an encoder and a decoder with equal filters."""
    settings: dict[str, Any] = {
        "design": "frequency" if kind == "frequency" else "time",
        "alignment": alignment,
        "native_rate": native_rate,
        "kernel_size": kernel_size,
        "stride": stride,
    }
    filters = bank(kind, channels * signal_channels)
    return (
        SFIConv1d(signal_channels, channels, filters, **settings),
        SFIConvTranspose1d(channels, signal_channels, copy.deepcopy(filters), **settings),
    )


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_near(actual: Tensor, expected: Tensor) -> None:
    """Check equality up to the rounding of float32 sums, whatever their scale."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-6 * expected.abs().max()


# Lengths


@pytest.mark.slow
@pytest.mark.parametrize("alignment", ["exact", "release"])
@pytest.mark.parametrize(
    ("sample_rate", "lengths"),
    [
        (8000, range(62)),
        (10000, range(0, 77, 2)),
        (11025, range(84)),
        (22050, range(0, 167, 3)),
        (32000, [0, 1, 2, 79, 80, 81, 159, 160, 161, 239, 240]),
        (44100, [0, 1, 2, 109, 110, 111, 220, 221, 330, 331, 440, 441, 442]),
        (44101, [0, 1, 2, 110, 111, 331]),
        (400, range(8)),
        (401, [0, 1, 2, 3, 402]),
    ],
)
def test_every_length_comes_back(
    sample_rate: int, lengths: list[int] | range, alignment: Alignment
) -> None:
    encoder, decoder = (layer.eval() for layer in layers("frequency", 2, alignment=alignment))
    with torch.no_grad():
        for length in lengths:
            frames = encoder(noise(1, 1, length), sample_rate=sample_rate)
            signal = decoder(frames, sample_rate=sample_rate, length=length)
            assert frames.shape == (1, 2, -(-length * 400 // sample_rate))
            assert signal.shape == (1, 1, length)
            assert torch.isfinite(frames).all()
            assert torch.isfinite(signal).all()
            assert length == 0 or (frames.abs().amax() > 0 and signal.abs().amax() > 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("kernel_size", "stride"), [(64, 16), (33, 11), (20, 20), (10, 30)])
def test_kernels_and_strides_of_any_ratio(kind: Kind, kernel_size: int, stride: int) -> None:
    encoder, decoder = layers(kind, 2, native_rate=16000, kernel_size=kernel_size, stride=stride)
    for sample_rate in (8000, 16000, 22050):
        for length in (1, 47, 300):
            frames = encoder(noise(1, 1, length), sample_rate=sample_rate)
            assert frames.shape[-1] == -(-length * 16000 // (sample_rate * stride))
            assert decoder(frames, sample_rate=sample_rate, length=length).shape == (1, 1, length)


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [8000, 44100, 44101])
def test_end_of_the_signal_is_as_if_zeros_followed(sample_rate: int) -> None:
    encoder, decoder = (layer.eval() for layer in layers("time", 3))
    signal = noise(2, 1, 1000)
    longer = nn.functional.pad(signal, (0, 700))
    with torch.no_grad():
        frames = encoder(signal, sample_rate=sample_rate)
        more = encoder(longer, sample_rate=sample_rate)
        assert_near(frames, more[..., : frames.shape[-1]])
        back = decoder(frames, sample_rate=sample_rate, length=1000)
        padded = nn.functional.pad(frames, (0, more.shape[-1] - frames.shape[-1]))
        far = decoder(padded, sample_rate=sample_rate, length=1700)
    assert_near(back, far[..., :1000])


@pytest.mark.parametrize(("sample_rate", "period", "frames"), [(8000, 20, 1), (44100, 441, 4)])
def test_a_shift_by_a_period_shifts_the_frames(sample_rate: int, period: int, frames: int) -> None:
    encoder, _ = layers("frequency", 3)
    signal = noise(1, 1, 2000)
    with torch.no_grad():
        plain = encoder(signal, sample_rate=sample_rate)
        shifted = encoder(nn.functional.pad(signal, (period, 0)), sample_rate=sample_rate)
    assert_near(shifted[..., frames + 8 :], plain[..., 8:])


# Adjoint


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signal_channels", [1, 2])
@pytest.mark.parametrize("sample_rate", [8000, 11025, 32000, 44100, 48000])
def test_transposed_convolution_is_the_adjoint(
    kind: Kind, signal_channels: int, sample_rate: int
) -> None:
    encoder, decoder = (
        layer.double() for layer in layers(kind, 4, signal_channels=signal_channels)
    )
    signal = noise(2, signal_channels, 1501).double()
    with torch.no_grad():
        frames = encoder(signal, sample_rate=sample_rate)
        other = noise(*frames.shape, seed=1).double()
        there = (frames * other).sum().item()
        back = (signal * decoder(other, sample_rate=sample_rate, length=1501)).sum().item()
    # Exact mode: encoder times F0 / F (time), or decoder times F / F0 (frequency).
    assert back == pytest.approx(there * sample_rate / 32000, rel=1e-9)


def test_release_mode_is_an_adjoint_without_factors() -> None:
    for kind in KINDS:
        encoder, decoder = (layer.double() for layer in layers(kind, 4, alignment="release"))
        signal = noise(1, 1, 800).double()
        frames = encoder(signal, sample_rate=8000)
        other = noise(*frames.shape, seed=1).double()
        back = decoder(other, sample_rate=8000, length=800)
        assert (frames * other).sum().item() == pytest.approx((signal * back).sum().item())


# Channels


def test_channels_vary_fastest_over_the_signal_side() -> None:
    encoder, decoder = (layer.double() for layer in layers("time", 3, signal_channels=2))
    centers, ln_sigma2, phase = (
        parameter.detach().view(3, 2) for parameter in encoder.filters.parameters()
    )
    signal = noise(2, 2, 700).double()
    latent = noise(2, 3, 28).double()

    def single(kind: type[SFIConv1d] | type[SFIConvTranspose1d], out: int, side: int) -> Any:
        filters = ModulatedGaussianFilters(1).double()
        with torch.no_grad():
            filters.center.copy_(centers[out, side])
            filters.ln_sigma2.copy_(ln_sigma2[out, side])
            filters.phase.copy_(phase[out, side])
        return kind(1, 1, filters, design="time")

    expected = torch.stack(
        [
            sum(single(SFIConv1d, o, i)(signal[:, [i]], sample_rate=10000)[:, 0] for i in (0, 1))
            for o in range(3)
        ],
        dim=1,
    )
    torch.testing.assert_close(encoder(signal, sample_rate=10000), expected)
    back = torch.stack(
        [
            sum(
                single(SFIConvTranspose1d, o, i)(latent[:, [o]], sample_rate=10000, length=700)[
                    :, 0
                ]
                for o in range(3)
            )
            for i in (0, 1)
        ],
        dim=1,
    )
    torch.testing.assert_close(decoder(latent, sample_rate=10000, length=700), back)


# Cache


def cached(kind: Kind = "frequency") -> SFIConv1d:
    return layers(kind)[0].eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_taps_are_kept_for_each_rate(kind: Kind) -> None:
    layer = cached(kind)
    first, second = layer.taps(8000), layer.taps(44100)
    assert layer.taps(8000) is first
    assert layer.taps(44100) is second
    assert first.shape[0] == 1
    assert second.shape[0] == 4


CHANGES: dict[str, Callable[[SFIConv1d], object]] = {
    "train": lambda layer: layer.train().eval(),
    "in-place": lambda layer: layer.filters.phase.add_(0.1),
    "data": lambda layer: layer.filters.phase.data.add_(0.1),
    "replaced": lambda layer: setattr(layer.filters, "phase", nn.Parameter(torch.zeros(4))),
    "load_state_dict": lambda layer: layer.load_state_dict(layer.state_dict()),
    "loaded filters": lambda layer: layer.filters.load_state_dict(
        {name: value + 0.1 for name, value in layer.filters.state_dict().items()}
    ),
    "bfloat16 and back": lambda layer: layer.bfloat16().float(),
}


@torch.no_grad()
@pytest.mark.parametrize("change", CHANGES)
def test_cached_taps_are_dropped_by_a_change(change: str) -> None:
    layer = cached()
    before = layer.taps(8000)
    CHANGES[change](layer)
    after = layer.taps(8000)
    assert after is not before
    torch.testing.assert_close(after, layer._build_taps(8000), rtol=0, atol=0)
    assert torch.equal(after, before) == (change in ("train", "load_state_dict"))


@torch.no_grad()
def test_parent_modules_drop_the_cache_too() -> None:
    parent = nn.Sequential(cached())
    layer = parent[0]
    assert isinstance(layer, SFIConv1d)
    before = layer.taps(8000)
    parent.load_state_dict(parent.state_dict())
    middle = layer.taps(8000)
    parent.train().eval()
    assert len({id(before), id(middle), id(layer.taps(8000))}) == 3


@torch.no_grad()
def test_taps_follow_the_parameters_dtype() -> None:
    layer = cached()
    single = layer.taps(8000)
    double = layer.double().taps(8000)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(double.float(), single, rtol=0, atol=1e-9)


def test_nothing_is_kept_where_gradients_flow() -> None:
    layer = cached()
    with_gradient = layer.taps(8000)
    assert with_gradient.requires_grad
    assert layer.taps(8000) is not with_gradient
    with torch.no_grad():
        kept = layer.taps(8000)
        assert not kept.requires_grad
        assert layer.train().taps(8000) is not layer.taps(8000)
    torch.testing.assert_close(with_gradient, kept, rtol=0, atol=0)


def test_taps_cached_in_inference_mode_serve_elsewhere() -> None:
    layer = cached()
    signal = noise(1, 1, 100)
    with torch.inference_mode():
        first = layer(signal, sample_rate=8000)
    with torch.no_grad():
        assert_near(layer(signal, sample_rate=8000), first)
    frames = layer(signal, sample_rate=8000)
    assert_near(frames.detach(), first.clone())
    frames.sum().backward()


@torch.no_grad()
def test_copies_and_pickles_carry_no_taps() -> None:
    layer = cached()
    layer.taps(8000)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301
        assert not twin._cache
        assert torch.equal(twin.taps(8000), layer.taps(8000))
    assert layer._cache


# Gradients


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sample_rate", [8000, 22050])
def test_gradients_of_the_taps_equal_differences(kind: Kind, sample_rate: int) -> None:
    for layer in layers(kind, 4):
        layer.double()
        weights = noise(*layer.taps(sample_rate).shape).double()

        def loss(layer: SFIConv1d | SFIConvTranspose1d = layer, w: Tensor = weights) -> Tensor:
            return (layer.taps(sample_rate) * w).sum()

        loss().backward()  # type: ignore[no-untyped-call]
        names = set()
        for name, parameter in layer.filters.named_parameters():
            names.add(name)
            assert parameter.grad is not None
            assert (parameter.grad != 0).all()
            direction = noise(*parameter.shape, seed=3).double()
            step = 1e-6 * max(1.0, parameter.abs().max().item())
            slope = (parameter.grad * direction).sum().item()
            with torch.no_grad():
                parameter.add_(step * direction)
                above = loss().item()
                parameter.sub_(2 * step * direction)
                below = loss().item()
                parameter.add_(step * direction)
            assert (above - below) / (2 * step) == pytest.approx(slope, rel=1e-4)
        assert names == (
            {"center_hz", "phase"} if kind == "gammatone" else {"center", "ln_sigma2", "phase"}
        )


@pytest.mark.parametrize("sample_rate", [8000, 44100])
def test_gradients_reach_the_signal(sample_rate: int) -> None:
    encoder, decoder = layers("frequency")
    signal = noise(1, 1, 600).requires_grad_()
    frames = encoder(signal, sample_rate=sample_rate)
    decoder(frames, sample_rate=sample_rate, length=600).square().sum().backward()
    assert signal.grad is not None
    assert (signal.grad != 0).all()


# Errors


@pytest.mark.parametrize("layer", [SFIConv1d, SFIConvTranspose1d])
def test_settings_that_do_not_fit_are_refused(
    layer: type[SFIConv1d] | type[SFIConvTranspose1d],
) -> None:
    def make(filters: AnalogFilters, design: Design = "time", **settings: Any) -> None:
        layer(2, 3, filters, design=design, **settings)

    make(ModulatedGaussianFilters(6))
    with pytest.raises(ConfigError, match="expected 6 analog filters, got 5"):
        make(ModulatedGaussianFilters(5))
    with pytest.raises(ConfigError, match="got MultiPhaseGammatoneFilters"):
        make(MultiPhaseGammatoneFilters(6, num_centers=3), "frequency")
    for name in ("native_rate", "kernel_size", "stride", "num_response_samples"):
        with pytest.raises(ConfigError, match="at least 1"):
            make(ModulatedGaussianFilters(6), "time", **{name: 0})


def test_signals_that_do_not_fit_are_refused() -> None:
    encoder, decoder = layers("frequency")
    with pytest.raises(ConfigError, match=r"399 Hz: expected a whole .* at least 400 Hz"):
        encoder(noise(1, 1, 10), sample_rate=399)
    frames = encoder(noise(1, 1, 100), sample_rate=8000)
    with pytest.raises(ConfigError, match="101 samples belong to 6 frames, got 5"):
        decoder(frames, sample_rate=8000, length=101)


def test_filters_by_name() -> None:
    assert isinstance(
        make_filters("modulated-gaussian", FilterSettings(5)), ModulatedGaussianFilters
    )
    settings = FilterSettings(8, num_centers=3, highest_hz=900)
    gammatones = make_filters("multi-phase-gammatone", settings)
    assert isinstance(gammatones, MultiPhaseGammatoneFilters)
    assert gammatones.center_hz.tolist()[-1] == pytest.approx(900)
    assert gammatones.center_hz.numel() == 3
    with pytest.raises(
        ConfigError,
        match="expected one of modulated-gaussian, multi-phase-gammatone, got 'sinc'",
    ):
        make_filters("sinc", settings)
