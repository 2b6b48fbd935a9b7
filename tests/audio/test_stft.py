"""The transform at its native rate against torch's, at others against direct sums and tones."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor

from sfisep_core.audio import stft_grid
from sfisep_core.audio.stft import STFT, STFTConfig
from sfisep_core.audio.windows import Window
from sfisep_core.errors import ConfigError

NATIVE = 44100
RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000)
BITS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tone(hertz: float, *, sample_rate: int, seconds: float) -> Tensor:
    time = torch.arange(round(seconds * sample_rate), dtype=torch.float64) / sample_rate
    return torch.cos(2 * math.pi * hertz * time + 0.3)


def decibels(error: Tensor, reference: Tensor) -> float:
    return 20 * math.log10(max((error.norm() / reference.norm()).item(), 1e-30))


# At the native rate


@BITS
@pytest.mark.parametrize(("n_fft", "hop"), [(512, 256), (512, 128), (512, 100), (510, 85)])
@pytest.mark.parametrize("window", ["hann", "hann-symmetric", "blackmanharris"])
@pytest.mark.parametrize("scale", ["none", "ortho"])
def test_native_rate_equals_torch(
    n_fft: int, hop: int, window: Window, scale: str, dtype: torch.dtype
) -> None:
    stft = STFT(STFTConfig(n_fft, hop, window=window, scale=scale), NATIVE)  # type: ignore[arg-type]
    values = {
        "hann": torch.hann_window(n_fft, dtype=torch.float64),
        "hann-symmetric": torch.from_numpy(np.hanning(n_fft)),
        "blackmanharris": torch.from_numpy(signal.windows.blackmanharris(n_fft)),
    }[window]
    options = {"window": values.to(dtype), "normalized": scale == "ortho"}
    bound = 1e-13 if dtype == torch.float64 else 1e-6
    mixture = noise(2, 3, 10 * hop + 37, dtype=dtype)
    expected = torch.stft(mixture.flatten(0, 1), n_fft, hop, **options, return_complex=True)
    found = stft.analyze(mixture, sample_rate=NATIVE)
    assert found.dtype == dtype.to_complex()
    assert found.shape == (2, 3, n_fft // 2 + 1, 11)
    assert (found.flatten(0, 1) - expected).abs().max() < bound * expected.abs().max()
    # Spectra that belong to no signal; without a rest of a hop all samples are well covered.
    spectra = noise(2, n_fft // 2 + 1, 11).to(dtype) * (1 + 1j)
    back = torch.istft(spectra, n_fft, hop, **options, length=10 * hop)
    found = stft.synthesize(spectra, sample_rate=NATIVE, length=10 * hop)
    assert found.dtype == dtype
    assert (found - back).abs().max() < 100 * bound * back.abs().max()


@BITS
@pytest.mark.parametrize("window", ["hann", "hann-symmetric", "blackmanharris"])
@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 100, 255, 256, 257, 1000, 9001])
def test_native_rate_comes_back_whole(
    window: Window, padding: str, length: int, dtype: torch.dtype
) -> None:
    stft = STFT(STFTConfig(512, 128, window=window, padding=padding), NATIVE)  # type: ignore[arg-type]
    mixture = noise(2, length, dtype=dtype)
    spectra = stft.analyze(mixture, sample_rate=NATIVE)
    frames = 1 + length // 128 if padding == "reflect" else math.ceil(length / 128) + 2
    assert spectra.shape == (2, 257, frames)
    back = stft.synthesize(spectra, sample_rate=NATIVE, length=length)
    # A Blackman-Harris window leaves little of the last samples before the end.
    bound = {torch.float64: 1e-13, torch.float32: 3e-5}[dtype]
    torch.testing.assert_close(back, mixture, rtol=0, atol=bound)


def test_short_signals_are_mirrored_again_and_again() -> None:
    stft = STFT(STFTConfig(16, 4), NATIVE)
    mixture = noise(3)
    padded = torch.from_numpy(np.pad(mixture.numpy(), 8, mode="reflect"))
    expected = torch.fft.rfft(padded[:16] * torch.hann_window(16, dtype=torch.float64))
    found = stft.analyze(mixture, sample_rate=NATIVE)
    torch.testing.assert_close(found, expected[:, None])


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 5000])
@pytest.mark.parametrize("window", ["hann-symmetric", "blackmanharris"])
def test_zero_padding_is_that_of_deepconvsep(length: int, window: Window) -> None:
    # Written from the specification: N / 2 zeros before, ceil(time / hop) + 2 frames, zeros behind.
    values = {
        "hann-symmetric": np.hanning(1024),
        "blackmanharris": signal.windows.blackmanharris(1024),
    }[window]
    mixture = noise(length).numpy()
    frames = math.ceil(length / 512) + 2
    padded = np.concatenate([np.zeros(512), mixture, np.zeros((frames + 1) * 512 - 512 - length)])
    expected = [np.fft.rfft(values * padded[512 * m : 512 * m + 1024]) / 32 for m in range(frames)]
    config = STFTConfig(1024, 512, window=window, padding="zeros", scale="ortho")
    found = STFT(config, NATIVE).analyze(torch.from_numpy(mixture), sample_rate=NATIVE)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=0, atol=1e-13)


# At other rates


def direct_times(config: STFTConfig, *, sample_rate: int, frames: int) -> list[list[Fraction]]:
    """Give exact times t, in native samples, from a frame's beginning to the samples it has."""
    begins = [Fraction(m * config.hop - config.n_fft // 2) for m in range(frames)]
    step = Fraction(NATIVE, sample_rate)
    first = math.ceil(begins[0] / step)
    last = math.ceil((begins[-1] + config.n_fft) / step)
    return [[n * step - begin for n in range(first, last)] for begin in begins]


def direct_window(config: STFTConfig, times: list[Fraction]) -> np.ndarray:
    period = config.n_fft if config.window == "hann" else config.n_fft - 1
    terms = [0.35875, 0.48829, 0.14128, 0.01168] if config.window == "blackmanharris" else [0.5] * 2
    phase = 2 * np.pi / period * np.array([float(t) for t in times])
    values = sum((-1) ** i * a * np.cos(i * phase) for i, a in enumerate(terms))
    return np.where([0 <= t <= period for t in times], values, 0.0)


def direct_basis(config: STFTConfig, times: list[Fraction]) -> np.ndarray:
    cycles = np.outer([float(t) for t in times], np.arange(config.n_fft // 2 + 1)) / config.n_fft
    return np.exp(2j * np.pi * cycles)


def counts_of_bins(config: STFTConfig, known: np.ndarray, *, sample_rate: int) -> np.ndarray:
    """Share the band between -min(F, F0) / 2 and min(F, F0) / 2, in bins, out over the bins."""
    counts = np.where(known, 2.0, 0.0)
    counts[0] = 1.0
    last = known.sum() - 1
    counts[last] = 0.0
    counts[last] = min(sample_rate, NATIVE) / NATIVE * config.n_fft - counts.sum()
    return counts


@pytest.mark.slow
@BITS
@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 44099, 44100, 44101, 88200, 96000])
@pytest.mark.parametrize(
    "config",
    [
        STFTConfig(64, 16),
        STFTConfig(64, 25, window="blackmanharris", padding="zeros", scale="ortho"),
        STFTConfig(50, 30, window="hann-symmetric"),  # 22050 Hz: whole hops from half a sample on
    ],
    ids=["hann", "blackmanharris", "hann-symmetric"],
)
def test_both_ways_are_the_sums_of_the_formula(
    config: STFTConfig, sample_rate: int, dtype: torch.dtype
) -> None:
    stft = STFT(config, NATIVE)
    length = 200 * sample_rate // NATIVE + 1
    frames = stft.num_frames(length, sample_rate=sample_rate)
    times = direct_times(config, sample_rate=sample_rate, frames=frames)
    windows = [direct_window(config, row) for row in times]
    bases = [direct_basis(config, row) for row in times]
    scale = 1 / math.sqrt(config.n_fft) if config.scale == "ortho" else 1.0
    known = np.arange(config.num_bins) * NATIVE * 2 <= sample_rate * config.n_fft
    before = math.floor(Fraction(config.n_fft * sample_rate, 2 * NATIVE))
    bound = 1e-13 if dtype == torch.float64 else 1e-6

    mixture = noise(2, length).numpy()
    extent = [(0, 0), (before, max(0, len(times[0]) - before - length))]
    padded = np.pad(mixture, extent, "reflect" if config.padding == "reflect" else "constant")
    padded = padded[:, : len(times[0])]
    rows = [(padded * w) @ basis.conj() * known for w, basis in zip(windows, bases, strict=True)]
    expected = np.stack(rows, axis=-1) * scale * NATIVE / sample_rate
    found = stft.analyze(torch.from_numpy(mixture).to(dtype), sample_rate=sample_rate).numpy()
    assert np.abs(found - expected).max() < bound * np.abs(expected).max()
    assert (found[:, ~known] == 0).all()

    spectra = noise(2, config.num_bins, frames, seed=1).numpy() * (1 + 1j)
    spectra[:, [0, -1]] = spectra[:, [0, -1]].real  # an inverse FFT looks at nothing else
    counts = counts_of_bins(config, known, sample_rate=sample_rate) / (config.n_fft * scale)
    parts = [(spectra[..., m] * counts @ bases[m].T).real * windows[m] for m in range(frames)]
    power = np.square(windows).sum(axis=0)
    back = (sum(parts) / np.where(power > 1e-2, power, np.inf))[:, before : before + length]
    found = stft.synthesize(
        torch.from_numpy(spectra).to(dtype.to_complex()), sample_rate=sample_rate, length=length
    ).numpy()
    error = np.abs(found[:, : back.shape[1]] - back)[back != 0]  # the very end is not covered
    assert (back != 0).mean() > 0.7
    assert error.max() < 100 * bound * np.abs(back).max()


@BITS
@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize(("n_fft", "hop"), [(2048, 1024), (1024, 256)])
@pytest.mark.parametrize(("hertz", "bound"), [(100, 1e-6), (1234.56, 1e-6), (2153.3203125, 2e-5)])
def test_tone_has_the_same_values_at_every_rate(
    n_fft: int, hop: int, hertz: float, bound: float, sample_rate: int, dtype: torch.dtype
) -> None:
    stft = STFT(STFTConfig(n_fft, hop), NATIVE)
    spectra = [
        stft.analyze(tone(hertz, sample_rate=rate, seconds=0.3).to(dtype), sample_rate=rate)
        for rate in (NATIVE, sample_rate)
    ]
    inner = slice(n_fft // hop, -n_fft // hop - 1)
    bins = math.floor(sample_rate / 2 / NATIVE * n_fft) + 1
    expected, found = (s[:bins, : spectra[0].shape[1]][:, inner] for s in spectra)
    assert expected.abs().mean(dim=1).argmax() == round(hertz / NATIVE * n_fft)
    assert (found - expected).abs().max() < bound * expected.abs().max()


# What is lost


@BITS
@pytest.mark.parametrize("sample_rate", [4000, 8000, 16000, 32000, 44056, 44101, 48000, 96000])
@pytest.mark.parametrize(("n_fft", "hop"), [(2048, 1024), (1024, 256)])
def test_what_is_lost_next_to_half_the_rate(
    n_fft: int, hop: int, sample_rate: int, dtype: torch.dtype
) -> None:
    stft = STFT(STFTConfig(n_fft, hop), NATIVE)
    for bins, least in {4: 54, 8: 77, 16: 101, 32: 124}.items():
        hertz = min(sample_rate, NATIVE) / 2 - bins * NATIVE / n_fft
        mixture = tone(hertz, sample_rate=sample_rate, seconds=0.5).to(dtype)
        spectra = stft.analyze(mixture, sample_rate=sample_rate)
        back = stft.synthesize(spectra, sample_rate=sample_rate, length=len(mixture))
        inner = slice(sample_rate // 10, -sample_rate // 10)
        lost = -decibels(back[inner] - mixture[inner], mixture[inner])
        assert lost > (min(least, 115) if dtype == torch.float32 else least)


@pytest.mark.parametrize("sample_rate", [4000, 8000, 11025, 16000, 22050, 32000, 44101])
@pytest.mark.parametrize(("n_fft", "hop"), [(2048, 1024), (1024, 256)])
def test_what_is_lost_of_white_noise(n_fft: int, hop: int, sample_rate: int) -> None:
    stft = STFT(STFTConfig(n_fft, hop), NATIVE)
    mixture = noise(sample_rate)
    spectra = stft.analyze(mixture, sample_rate=sample_rate)
    back = stft.synthesize(spectra, sample_rate=sample_rate, length=sample_rate)
    inner = slice(sample_rate // 10, -sample_rate // 10)
    lost = -decibels(back[inner] - mixture[inner], mixture[inner])
    whole = n_fft * sample_rate % NATIVE == 0
    assert whole == (sample_rate in (11025, 22050))
    assert lost > (250 if whole else 27)


@pytest.mark.parametrize("sample_rate", [48000, 88200, 96000])
def test_all_above_the_native_band_is_lost(sample_rate: int) -> None:
    stft = STFT(STFTConfig(1024, 256), NATIVE)
    high = tone(NATIVE / 2 + 8 * NATIVE / 1024, sample_rate=sample_rate, seconds=0.3)
    spectra = stft.analyze(high, sample_rate=sample_rate)
    back = stft.synthesize(spectra, sample_rate=sample_rate, length=len(high))
    assert decibels(back[3000:-3000], high[3000:-3000]) < -60


# Everywhere


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("sample_rate", RATES)
def test_any_length_and_number_of_signals(padding: str, sample_rate: int) -> None:
    stft = STFT(STFTConfig(512, 128, padding=padding), NATIVE)  # type: ignore[arg-type]
    for shape in ((0,), (1,), (2, 2), (0, 100), (1, 2, 100), (3, 9001)):
        mixture = noise(*shape, dtype=torch.float32)
        spectra = stft.analyze(mixture, sample_rate=sample_rate)
        frames = stft.num_frames(shape[-1], sample_rate=sample_rate)
        assert spectra.shape == (*shape[:-1], 257, frames)
        back = stft.synthesize(spectra, sample_rate=sample_rate, length=shape[-1])
        assert back.shape == shape
        assert torch.isfinite(back).all()


@pytest.mark.parametrize("sample_rate", [NATIVE, 22050, 44101])
def test_blocks_change_nothing(sample_rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stft = STFT(STFTConfig(512, 100), NATIVE)
    mixture = noise(2, 3000)
    spectra = stft.analyze(mixture, sample_rate=sample_rate)
    back = stft.synthesize(spectra, sample_rate=sample_rate, length=3000)
    monkeypatch.setattr(stft_grid, "_BLOCK_SIZE", 10_000)  # a few frames
    torch.testing.assert_close(stft.analyze(mixture, sample_rate=sample_rate), spectra)
    again = stft.synthesize(spectra, sample_rate=sample_rate, length=3000)
    torch.testing.assert_close(again, back)


@pytest.mark.parametrize("sample_rate", RATES)
@pytest.mark.parametrize(("n_fft", "hop"), [(512, 100), (512, 256), (64, 64), (510, 7)])
def test_frames_that_are_added_together_do_not_overlap(
    n_fft: int, hop: int, sample_rate: int
) -> None:
    config = STFTConfig(n_fft, hop)
    grid = stft_grid.make_grid(config, NATIVE, sample_rate, torch.float32, torch.device("cpu"))
    for frame in range(400):
        assert grid.start(frame + grid.overlap) - grid.start(frame) >= grid.size


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [60, 100, 101, 230])
def test_gradients(sample_rate: int) -> None:
    stft = STFT(STFTConfig(16, 4), 100)
    mixture = noise(2, 23).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda samples: stft.analyze(samples, sample_rate=sample_rate), mixture
    )
    spectra = stft.analyze(mixture, sample_rate=sample_rate).detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: stft.synthesize(s, sample_rate=sample_rate, length=23), spectra
    )


def test_what_was_kept_in_inference_mode_serves_for_training() -> None:
    stft = STFT(STFTConfig(16, 4), 101)
    with torch.inference_mode():
        spectra = stft.analyze(noise(40), sample_rate=90)
        stft.synthesize(spectra, sample_rate=90, length=40)
    mixture = noise(40).requires_grad_()
    spectra = stft.analyze(mixture, sample_rate=90)
    stft.synthesize(spectra, sample_rate=90, length=40).sum().backward()
    assert mixture.grad is not None


@pytest.mark.parametrize("sample_rate", [0, 86, 44100.5])
def test_rates_below_a_sample_a_hop_are_refused(sample_rate: float) -> None:
    stft = STFT(STFTConfig(1024, 512), NATIVE)
    with pytest.raises(ConfigError, match="whole sampling frequency of at least 87 Hz"):
        stft.analyze(noise(100), sample_rate=sample_rate)  # type: ignore[arg-type]
    assert stft.hop(87) > 1


def test_spectra_of_another_shape_are_refused() -> None:
    stft = STFT(STFTConfig(64, 16), NATIVE)
    for shape in ((33, 11), (32, 10)):
        spectra = torch.zeros(shape, dtype=torch.complex64)
        with pytest.raises(ConfigError, match=f"33 bins and 10 frames, got {shape[0]} and"):
            stft.synthesize(spectra, sample_rate=NATIVE, length=150)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_fft": 0}, "stft.n_fft: expected an even number of 2 to 65536, got 0"),
        ({"n_fft": 1023}, "an even number of 2 to 65536, got 1023"),
        ({"hop": 0}, "stft.hop: expected 1 to 65536, got 0"),
        ({"n_fft": 256, "hop": 257}, r"stft.hop: expected at most n_fft \(256\), got 257"),
        ({"window": "boxcar"}, "window: expected hann or .*, got boxcar"),
        ({"padding": "none"}, "padding: expected reflect or zeros, got none"),
        ({"scale": "max"}, "scale: expected none or ortho, got max"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        STFTConfig(**settings)  # type: ignore[arg-type]


def test_native_rate_is_checked() -> None:
    with pytest.raises(ConfigError, match="a native rate of at least 1 Hz, got 0"):
        STFT(STFTConfig(), 0)
