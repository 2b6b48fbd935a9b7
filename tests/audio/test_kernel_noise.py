import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sfisep_core.audio import kernel_noise as kernel_noise_module
from sfisep_core.audio.kernel_noise import kernel_noise
from sfisep_core.audio.resample import sinc_resample
from sfisep_core.errors import ConfigError

# 32000 / 11025 = 1280 / 441: all distances between samples occur with 441 neighbouring impulses.
ORIG, TARGET, UP, DOWN = 11025, 32000, 1280, 441
FRAMES, FIRST = 460, 10
Samples = NDArray[np.float32]


def white(channels: int, frames: int) -> Samples:
    return np.random.default_rng(5).standard_normal((channels, frames)).astype(np.float32)


def added(audio: Samples, level: float = 0.1, seed: int = 0) -> Samples:
    return kernel_noise(audio, orig_rate=ORIG, target_rate=TARGET, level=level, seed=seed)


def sinc(audio: Samples) -> Samples:
    return sinc_resample(torch.from_numpy(audio), orig_rate=ORIG, target_rate=TARGET).numpy()


def impulses() -> tuple[Samples, NDArray[np.int64]]:
    """One impulse a channel, and the distances of all output samples to it in 1 / (441 * 32000)."""
    positions = np.arange(FIRST, FIRST + DOWN)
    audio = np.zeros((DOWN, FRAMES), dtype=np.float32)
    audio[np.arange(DOWN), positions] = 1
    length = -(-FRAMES * UP // DOWN)
    return audio, np.arange(length) * DOWN - positions[:, None] * UP


def test_every_tap_of_the_kernel_and_no_other_gets_its_own_noise() -> None:
    audio, distances = impulses()
    inside = np.abs(distances) * 0.99 < 6 * UP
    noise = added(audio)
    np.testing.assert_array_equal(noise != 0, inside)
    _, tap = np.unique(distances[inside], return_index=True)
    taps = noise[inside][tap].astype(np.float64)
    assert len(taps) == 2 * (6 * UP * 100 // 99) + 1
    assert len(np.unique(taps)) > len(taps) - 10  # float32 knows few enough values for some twins
    kernel = sinc(audio)[inside][tap].astype(np.float64)
    # 15,515 draws: their deviation is known within 0.6 %, their mean within 0.8 % of that.
    assert taps.std() == pytest.approx(0.1 * np.sqrt(np.mean(kernel**2)), rel=0.015)
    assert abs(taps.mean()) < 0.02 * taps.std()
    assert abs(np.corrcoef(taps, kernel)[0, 1]) < 0.02
    assert abs(np.corrcoef(taps[1:], taps[:-1])[0, 1]) < 0.02
    assert np.mean((taps / taps.std()) ** 4) == pytest.approx(3, rel=0.06)  # Gaussian


def test_the_noisy_taps_filter_the_signal() -> None:
    audio, distances = impulses()
    noise = added(audio)
    taps = dict(zip(distances.ravel().tolist(), noise.ravel().tolist(), strict=True))
    signal = white(2, 900)
    result = added(signal)
    assert result.shape == (2, -(-900 * UP // DOWN))
    for sample in (0, 1, 500, 1279, 1280, 2000, result.shape[1] - 1):
        expected = sum(
            taps.get(sample * DOWN - position * UP, 0.0) * signal[:, position].astype(np.float64)
            for position in range(900)
        )
        np.testing.assert_allclose(result[:, sample], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("level", [0.03, 0.5])
def test_power_added_to_white_noise_and_where_it_lies(level: float) -> None:
    signal = white(1, 2 * ORIG)
    noise, resampled = added(signal, level), sinc(signal)
    power = level**2 * np.mean(resampled.astype(np.float64) ** 2)
    spectrum = np.abs(np.fft.rfft(noise[0].astype(np.float64))) ** 2
    frequency = np.fft.rfftfreq(noise.shape[1], 1 / TARGET)
    share = spectrum[frequency > ORIG / 2].sum() / spectrum.sum()
    assert np.mean(noise.astype(np.float64) ** 2) == pytest.approx(power, rel=0.04)
    assert share == pytest.approx(1 - ORIG / TARGET, abs=0.02)
    above = np.sum(np.square(noise.astype(np.float64))) * share
    quiet = np.abs(np.fft.rfft(resampled[0].astype(np.float64))) ** 2
    # The sinc leaves only its skirt there: far above F / 2 the noise is all that there is.
    assert quiet[frequency > 0.6 * ORIG].sum() < 1e-4 * quiet.sum()
    assert above == pytest.approx(power * noise.shape[1] * (1 - ORIG / TARGET), rel=0.05)


@pytest.mark.parametrize("frequency", [0.0, 441.0])
def test_tones_get_images_of_the_same_total_power(frequency: float) -> None:
    signal = np.cos(2 * np.pi * frequency * np.arange(ORIG) / ORIG).astype(np.float32)[None]
    audio, _ = impulses()
    gain = np.mean(np.sum(sinc(audio).astype(np.float64) ** 2, axis=1)) * DOWN / UP
    inner = added(signal)[0, 1000:-1000].astype(np.float64)
    assert np.mean(inner**2) == pytest.approx(
        0.01 * gain * np.mean(signal.astype(np.float64) ** 2), rel=0.12
    )


def test_level_zero_adds_nothing_and_seeds_differ() -> None:
    signal = white(1, 500)
    np.testing.assert_array_equal(added(signal, level=0.0), 0)
    np.testing.assert_array_equal(added(signal), added(signal))
    first, second = added(signal)[0], added(signal, seed=1)[0]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
    np.testing.assert_allclose(added(signal, level=0.3), 3 * added(signal), rtol=1e-5, atol=1e-6)


def test_channels_get_the_same_noise() -> None:
    signal = white(1, 500)
    both = added(np.concatenate([signal, 2 * signal, 0 * signal]))
    np.testing.assert_array_equal(both, [*added(signal), *(2 * added(signal)), 0 * both[0]])


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = white(2, 500)
    expected = added(signal)
    monkeypatch.setattr(kernel_noise_module, "_NOISE_BLOCK", 97)
    np.testing.assert_array_equal(added(signal), expected)


@pytest.mark.parametrize("frames", [0, 1, 2])
@pytest.mark.parametrize("rate", [8000, 11027, 31999, 32000])
def test_hardly_any_samples_at_any_pair_of_rates(rate: int, frames: int) -> None:
    ones = np.ones((2, frames), dtype=np.float32)
    noise = kernel_noise(ones, orig_rate=rate, target_rate=TARGET, level=0.1, seed=0)
    assert noise.shape == (2, -(-frames * TARGET // rate))
    assert np.isfinite(noise).all()
    assert np.count_nonzero(noise) == noise.size


def test_going_down_is_refused() -> None:
    message = r"^kernel noise from 44100 Hz to 32000 Hz: expected a target rate of 44100 Hz or more"
    with pytest.raises(ConfigError, match=message):
        kernel_noise(white(1, 10), orig_rate=44100, target_rate=TARGET, level=0.1, seed=0)
