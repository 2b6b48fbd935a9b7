"""Layers against continuous time: what they compute must not depend on the sampling frequency."""

import math

import pytest
import torch
from torch import Tensor

from sfisep_core.sfi import (
    ModulatedGaussianFilters,
    MultiPhaseGammatoneFilters,
    SFIConv1d,
    SFIConvTranspose1d,
)
from sfisep_core.sfi.filter_bank import AnalogFilters
from sfisep_core.sfi.frame_grid import Alignment
from sfisep_core.sfi.layers import Design

TWO_PI = 2 * math.pi
KERNEL_SECONDS = 0.005
HOP_SECONDS = 0.0025
NINE_RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
# Where the published time design is centred (half a native sample early), in seconds.
TIME_ANCHOR = -0.5 / 32000


class Tones:
    """A band-limited signal that is known at every instant."""

    def __init__(self, *, highest_hz: float = 3500.0, count: int = 40, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        random = torch.rand(2, count, generator=generator, dtype=torch.float64)
        self.hertz = 60 + (highest_hz - 60) * random[0]
        self.phases = TWO_PI * random[1]

    def at(self, time: Tensor) -> Tensor:
        angles = TWO_PI * self.hertz * time.unsqueeze(-1) + self.phases
        return torch.cos(angles).sum(dim=-1)

    def sampled(self, sample_rate: int, seconds: float = 0.2) -> Tensor:
        count = int(seconds * sample_rate)
        return self.at(torch.arange(count).double() / sample_rate).view(1, 1, count)


def gaussian_bank(count: int = 96) -> ModulatedGaussianFilters:
    torch.manual_seed(1)
    return ModulatedGaussianFilters(count)


def encoder(filters: AnalogFilters, *, design: Design, alignment: Alignment = "exact") -> SFIConv1d:
    layer = SFIConv1d(1, filters.num_filters, filters, design=design, alignment=alignment)
    return layer.double().eval().requires_grad_(False)


def decoder(
    filters: AnalogFilters, *, design: Design, alignment: Alignment = "exact"
) -> SFIConvTranspose1d:
    layer = SFIConvTranspose1d(filters.num_filters, 1, filters, design=design, alignment=alignment)
    return layer.double().eval().requires_grad_(False)


def decibels(error: Tensor, reference: Tensor) -> float:
    return 10 * math.log10(error.square().sum() / reference.square().sum())


# Against a dense reference: y(c) = integral of h(t) x(c - t) over 5 ms, summed at 1.6 MHz.


def dense_reference(filters: ModulatedGaussianFilters, signal: Tones, centers: Tensor) -> Tensor:
    step = 1 / 1.6e6
    time = torch.arange(-4000, 4001).double() * step
    weights = torch.full_like(time, step)
    weights[[0, -1]] *= 0.5
    with torch.no_grad():
        response = filters.impulse_response(time) / TWO_PI * weights  # in units of H
    return response @ signal.at(centers.unsqueeze(1) - time).T


FRAMES = torch.arange(5, 70)


@pytest.fixture(scope="module")
def references() -> dict[float, Tensor]:
    signal, filters = Tones(), gaussian_bank()
    centers = (FRAMES + 0.5) * HOP_SECONDS
    return {
        anchor: dense_reference(filters, signal, centers + anchor) for anchor in (0.0, TIME_ANCHOR)
    }


def encoder_error(
    references: dict[float, Tensor], sample_rate: int, design: Design, alignment: Alignment
) -> float:
    """Give the relative error in dB of the encoder's frames, filters under 3 kHz."""
    filters = gaussian_bank()
    layer = encoder(filters, design=design, alignment=alignment)
    frames = layer(Tones().sampled(sample_rate), sample_rate=sample_rate)[0, :, FRAMES]
    anchor = 0.0
    if design == "time":
        # Units of H. The released time design is compared at the frame's nominal centre, which it
        # misses by half a sample of whatever F is; ours by half a native one at every F.
        frames = frames / (TWO_PI * (32000 if alignment == "exact" else sample_rate))
        anchor = TIME_ANCHOR if alignment == "exact" else 0.0
    low = filters.centers_hz() < 3000
    reference = references[anchor]
    return decibels((frames - reference)[low], reference[low])


@pytest.mark.slow
@pytest.mark.parametrize("design", ["frequency", "time"])
@pytest.mark.parametrize(
    ("sample_rate", "decibels_at_most"),
    [
        (8000, -66),
        (10000, -74),
        (11025, -75),
        (22050, -80),
        (32000, -81),
        (44100, -81),
        (96000, -84),
    ],
)
def test_exact_frames_equal_the_dense_reference(
    references: dict[float, Tensor], sample_rate: int, design: Design, decibels_at_most: float
) -> None:
    error = encoder_error(references, sample_rate, design, "exact")
    assert error <= decibels_at_most


@pytest.mark.parametrize(
    ("sample_rate", "design", "expected"),
    [
        (8000, "frequency", -27),
        (8000, "time", -5),
        (10000, "frequency", -7),
        (10000, "time", -46),
        (32000, "frequency", -40),
        (32000, "time", -17),
        (96000, "frequency", -47),
        (96000, "time", -26),
    ],
)
def test_released_frames_are_as_far_off_as_published(
    references: dict[float, Tensor], sample_rate: int, design: Design, expected: float
) -> None:
    error = encoder_error(references, sample_rate, design, "release")
    assert error == pytest.approx(expected, abs=2)


# A tone at w passes with the response of the analog filter cut to 5 ms.


def windowed_response(filters: ModulatedGaussianFilters, hertz: Tensor) -> Tensor:
    """Transform h over 5 ms; one frequency a filter."""
    step = 1 / 320000
    time = torch.arange(-800, 801).double() * step
    weights = torch.full_like(time, step)
    weights[[0, -1]] *= 0.5
    waves = torch.exp(-1j * TWO_PI * hertz.unsqueeze(1) * time)
    return (filters.impulse_response(time) / TWO_PI * weights * waves).sum(dim=1)


def bank_at(centers_hz: Tensor) -> ModulatedGaussianFilters:
    torch.manual_seed(2)
    filters = ModulatedGaussianFilters(centers_hz.numel()).double().requires_grad_(False)
    filters.center.copy_(TWO_PI * centers_hz)
    return filters


def tone_response(layer: SFIConv1d, hertz: Tensor, sample_rate: int) -> Tensor:
    """Send a complex tone through each filter of an encoder; (filter, frame)."""
    time = torch.arange(int(0.08 * sample_rate)).double() / sample_rate
    tones = torch.exp(1j * TWO_PI * hertz.unsqueeze(1) * time)
    parts = torch.cat([tones.real, tones.imag]).unsqueeze(1)
    frames = layer(parts, sample_rate=sample_rate)
    count = hertz.numel()
    real = frames[:count].diagonal(dim1=0, dim2=1).T
    imaginary = frames[count:].diagonal(dim1=0, dim2=1).T
    anchor = TIME_ANCHOR if layer.design == "time" else 0.0
    centers = (torch.arange(frames.shape[-1]) + 0.5) * HOP_SECONDS + anchor
    response = torch.complex(real, imaginary) * torch.exp(
        -1j * TWO_PI * hertz.unsqueeze(1) * centers
    )
    if layer.design == "time":
        response = response / (TWO_PI * 32000)
    return response[:, 4:-4]  # without the frames that hear the tone begin and end


def test_windowed_response_by_hand() -> None:
    response = windowed_response(bank_at(torch.full((2,), 2000.0)), torch.tensor([2000.0, 2200.0]))
    assert response.abs()[0].item() == pytest.approx(math.erf(math.pi / math.sqrt(8)), abs=1e-3)
    assert response.abs()[1].item() == pytest.approx(0.202, abs=2e-3)  # H alone: 0.135


@pytest.mark.parametrize("design", ["frequency", "time"])
@pytest.mark.parametrize("sample_rate", NINE_RATES)
def test_tone_gives_the_windowed_analog_response(sample_rate: int, design: Design) -> None:
    """Within 1 % of the gain at the centre, for every tone below 0.45 F."""
    peak = math.erf(math.pi / math.sqrt(8))
    for offset in (0.0, -100.0, 200.0, -1000.0, 1000.0):
        lowest, highest = 250 + max(-offset, 0), 0.45 * min(sample_rate, 35000) - max(offset, 0)
        centers = torch.linspace(lowest, highest, 24).double()
        filters = bank_at(centers)
        hertz = centers + offset
        response = tone_response(encoder(filters, design=design), hertz, sample_rate)
        expected = windowed_response(filters, hertz)
        error = (response - expected.unsqueeze(1)).abs().amax(dim=1) / peak
        assert error.max() < 0.01


# Gains


def centre_gain(layer: SFIConv1d | SFIConvTranspose1d, sample_rate: int) -> float:
    """Give the gain of a one-filter layer at 1 kHz: per sample, or as a spectrum per second."""
    if isinstance(layer, SFIConv1d):
        time = torch.arange(sample_rate // 10).double() / sample_rate
        wave = torch.exp(1j * TWO_PI * 1000 * time)
        parts = torch.stack([wave.real, wave.imag]).unsqueeze(1)
        frames = layer(parts, sample_rate=sample_rate)[:, 0, 10:-10]
        return float(torch.complex(frames[0], frames[1]).abs().mean())
    impulse = torch.zeros(1, layer.in_channels, 40).double()
    impulse[:, 0, 20] = 1
    signal = layer(impulse, sample_rate=sample_rate, length=sample_rate // 10)[0, 0]
    time = torch.arange(signal.numel()).double() / sample_rate
    return float((signal * torch.exp(-1j * TWO_PI * 1000 * time)).sum().abs()) / sample_rate


@pytest.mark.parametrize(
    ("design", "alignment", "growth"),
    [
        # powers of F with which the gain of encoder and decoder grow
        ("frequency", "exact", (0, 0)),
        ("time", "exact", (0, 0)),
        ("frequency", "release", (0, -1)),
        ("time", "release", (1, 0)),
    ],
)
def test_gain_does_not_depend_on_the_rate_in_exact_mode(
    design: Design, alignment: Alignment, growth: tuple[int, int]
) -> None:
    filters = bank_at(torch.tensor([1000.0]))
    layers: tuple[SFIConv1d, SFIConvTranspose1d] = (
        encoder(filters, design=design, alignment=alignment),
        decoder(filters, design=design, alignment=alignment),
    )
    peak = math.erf(math.pi / math.sqrt(8))
    native = (
        peak * (1 if design == "frequency" else TWO_PI * 32000),
        peak * (1 / 32000 if design == "frequency" else TWO_PI),
    )
    rates = (8000, 16000, 32000, 48000, 96000)
    for sample_rate in rates if alignment == "release" else (*NINE_RATES, 10000):
        gains = [centre_gain(layers[0], sample_rate), centre_gain(layers[1], sample_rate)]
        for found, gain, power in zip(gains, native, growth, strict=True):
            assert found == pytest.approx(gain * (sample_rate / 32000) ** power, rel=0.01)


@pytest.mark.parametrize(("sample_rate", "gain"), [(8000, 44.5e3), (32000, 178e3), (48000, 267e3)])
def test_published_gains_of_the_time_design(sample_rate: int, gain: float) -> None:
    layer = encoder(bank_at(torch.tensor([1000.0])), design="time", alignment="release")
    assert centre_gain(layer, sample_rate) == pytest.approx(gain, rel=0.01)


def test_gammatone_gain_does_not_depend_on_the_rate_in_exact_mode() -> None:
    filters = MultiPhaseGammatoneFilters(2, num_centers=1, lowest_hz=1000, highest_hz=1000)
    layers = (encoder(filters, design="time"), decoder(filters, design="time"))
    native = [centre_gain(layer, 32000) for layer in layers]
    for sample_rate in (8000, 11025, 44100, 96000):
        gains = [centre_gain(layer, sample_rate) for layer in layers]
        assert gains == pytest.approx(native, rel=0.02)


# Equivariance: one band-limited signal sampled at two rates.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rates", "decibels_at_most"),
    [
        # frequency, time, gammatone
        # The last two lose filters that the mask of the time design switches off.
        ((44100, 32000), (-74, -75, -71)),
        ((44100, 48000), (-84, -85, -80)),
        ((44101, 44100), (-59, -59, -60)),  # rounded to 1/64 sample
        ((22050, 32000), (-72, -49, -39)),
        ((16000, 32000), (-67, -45, -37)),
        ((11025, 44100), (-65, -40, -35)),
        ((96000, 32000), (-73, -74, -71)),
        ((8000, 32000), (-59, -36, -30)),
    ],
)
def test_encoder_gives_the_same_frames_at_two_rates(
    rates: tuple[int, int], decibels_at_most: tuple[int, int, int]
) -> None:
    gaussians, gammatones = gaussian_bank(), MultiPhaseGammatoneFilters(96, num_centers=24)
    signals = [Tones().sampled(rate) for rate in rates]
    for layer, limit in zip(
        (
            encoder(gaussians, design="frequency"),
            encoder(gaussians, design="time"),
            encoder(gammatones, design="time"),
        ),
        decibels_at_most,
        strict=True,
    ):
        first, second = (
            layer(signal, sample_rate=rate)[0, :, FRAMES]
            for signal, rate in zip(signals, rates, strict=True)
        )
        assert decibels(first - second, second) < limit


@pytest.mark.parametrize(("design", "decibels_at_least"), [("frequency", -29), ("time", -8)])
def test_released_encoder_gives_other_frames(design: Design, decibels_at_least: float) -> None:
    layer = encoder(gaussian_bank(), design=design, alignment="release")
    first, second = (
        layer(Tones().sampled(rate), sample_rate=rate)[0, :, FRAMES] for rate in (8000, 32000)
    )
    if design == "time":
        first = first * 4  # its gain grows with F
    assert decibels(first - second, second) > decibels_at_least


@pytest.mark.parametrize(
    ("sample_rate", "decibels_at_most"),
    [(8000, -39), (11025, -43), (16000, -47), (22050, -50), (32000, -54), (44100, -59)],
)
@pytest.mark.parametrize("design", ["frequency", "time"])
def test_decoder_gives_the_same_signal_at_two_rates(
    design: Design, sample_rate: int, decibels_at_most: float
) -> None:
    filters = gaussian_bank()
    frames = encoder(filters, design=design)(Tones().sampled(32000), sample_rate=32000)
    frames[:, filters.centers_hz() > 3000] = 0
    layer = decoder(filters, design=design)

    def low_band(rate: int) -> Tensor:
        count = rate // 5
        signal: Tensor = layer(frames, sample_rate=rate, length=count)
        spectrum: Tensor = torch.fft.rfft(signal)[..., :600] / count  # 0 to 3 kHz
        return spectrum

    reference = torch.view_as_real(low_band(96000))
    error = torch.view_as_real(low_band(sample_rate)) - reference
    assert decibels(error, reference) < decibels_at_most
