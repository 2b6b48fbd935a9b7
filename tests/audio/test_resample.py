import numpy as np
import pytest
import soxr
import torch
import torchaudio.functional
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sfisep_core.audio import resample as resample_module
from sfisep_core.audio.resample import (
    resample,
    resample_blocks,
    resampled_length,
    sinc_resample,
)
from sfisep_core.errors import ConfigError

PAIRS = [
    (44100, 8000),
    (44100, 16000),
    (44100, 48000),
    (44100, 44101),
    (44101, 44100),
    (48000, 44100),
    (8000, 44100),
    (8000, 384000),
    (384000, 8000),
    (11025, 44100),
    (96000, 22050),
]
SINC_PAIRS = [pair for pair in PAIRS if 44101 not in pair]


def tone(frequency: float, sample_rate: int, frames: int) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * frequency * np.arange(frames) / sample_rate).astype(np.float32)


def amplitude(signal: NDArray[np.float32], frequency: float, sample_rate: int) -> float:
    """Return the amplitude of a tone by projection on a Hann-windowed middle half."""
    middle = signal[len(signal) // 4 : -(len(signal) // 4)].astype(np.float64)
    window = np.hanning(len(middle))
    carrier = np.exp(-2j * np.pi * frequency * np.arange(len(middle)) / sample_rate)
    return float(2 * abs(np.sum(middle * window * carrier)) / np.sum(window))


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 440, 441, 442, 9999, 44100])
@pytest.mark.parametrize(("orig_rate", "target_rate"), PAIRS)
def test_soxr_length_is_the_ceiling(orig_rate: int, target_rate: int, frames: int) -> None:
    audio = np.ones((2, frames), dtype=np.float32)
    result = resample(audio, orig_rate=orig_rate, target_rate=target_rate)
    assert result.shape == (2, -(-frames * target_rate // orig_rate))
    assert result.dtype == np.float32
    assert np.isfinite(result).all()


@pytest.mark.slow
@pytest.mark.parametrize("frames", [0, 1, 2, 3, 440, 441, 442, 9999, 44100])
@pytest.mark.parametrize(("orig_rate", "target_rate"), SINC_PAIRS)
def test_sinc_length_is_the_ceiling(orig_rate: int, target_rate: int, frames: int) -> None:
    audio = torch.ones((3, 2, frames), dtype=torch.float64)
    result = sinc_resample(audio, orig_rate=orig_rate, target_rate=target_rate)
    assert result.shape == (3, 2, -(-frames * target_rate // orig_rate))
    assert result.dtype == torch.float64
    assert torch.isfinite(result).all()


@settings(deadline=None)
@given(
    frames=st.integers(0, 500),
    orig_rate=st.integers(4000, 60000),
    target_rate=st.integers(4000, 60000),
)
def test_soxr_takes_any_pair_of_rates(frames: int, orig_rate: int, target_rate: int) -> None:
    audio = np.ones((1, frames), dtype=np.float32)
    there = resample(audio, orig_rate=orig_rate, target_rate=target_rate)
    assert there.shape[1] == resampled_length(frames, orig_rate=orig_rate, target_rate=target_rate)
    back = resample(there, orig_rate=target_rate, target_rate=orig_rate, length=frames)
    assert back.shape == audio.shape


@pytest.mark.parametrize("length", [0, 1, 100, 799, 800, 801, 1000])
def test_length_pads_with_zeros_or_cuts(length: int) -> None:
    audio = np.random.default_rng(0).standard_normal((2, 4410), dtype=np.float32)
    whole = resample(audio, orig_rate=44100, target_rate=8000)
    result = resample(audio, orig_rate=44100, target_rate=8000, length=length)
    expected = np.pad(whole, ((0, 0), (0, 200)))[:, :length]
    np.testing.assert_array_equal(result, expected)

    sinc_whole = sinc_resample(torch.from_numpy(audio), orig_rate=44100, target_rate=8000)
    sinc = sinc_resample(torch.from_numpy(audio), orig_rate=44100, target_rate=8000, length=length)
    sinc_expected = torch.nn.functional.pad(sinc_whole, (0, 200))[:, :length]
    assert torch.equal(sinc, sinc_expected)


@pytest.mark.parametrize("length", [None, 5, 12])
def test_equal_rates_leave_the_samples_alone(length: int | None) -> None:
    audio = np.random.default_rng(0).standard_normal((2, 10), dtype=np.float32)
    expected = np.pad(audio, ((0, 0), (0, 2)))[:, : 10 if length is None else length]
    result = resample(audio, orig_rate=44101, target_rate=44101, length=length)
    np.testing.assert_array_equal(result, expected)
    assert not np.shares_memory(result, audio)
    sinc = sinc_resample(torch.from_numpy(audio), orig_rate=44101, target_rate=44101, length=length)
    np.testing.assert_array_equal(sinc.numpy(), expected)


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.9])
@pytest.mark.parametrize(("orig_rate", "target_rate"), PAIRS)
def test_soxr_keeps_tones_below_nine_tenths_of_nyquist(
    orig_rate: int, target_rate: int, fraction: float
) -> None:
    frequency = fraction * min(orig_rate, target_rate) / 2
    audio = tone(frequency, orig_rate, orig_rate // 4)[None]
    result = resample(audio, orig_rate=orig_rate, target_rate=target_rate)[0]
    level = 20 * np.log10(amplitude(result, frequency, target_rate))
    assert abs(level) < 0.1
    # The tone also keeps its phase: no delay is added, up to the last eighth of the signal.
    ideal = tone(frequency, target_rate, len(result))
    middle = slice(len(result) // 8, -(len(result) // 8))
    np.testing.assert_allclose(result[middle], ideal[middle], atol=1e-3)


@pytest.mark.parametrize(("orig_rate", "target_rate"), [(44100, 8000), (48000, 44100)])
def test_soxr_removes_what_the_target_cannot_hold(orig_rate: int, target_rate: int) -> None:
    audio = tone(1.1 * target_rate / 2, orig_rate, orig_rate)[None]
    result = resample(audio, orig_rate=orig_rate, target_rate=target_rate)[0]
    middle = result[len(result) // 4 : -(len(result) // 4)]
    assert np.abs(middle).max() < 1e-6


def test_soxr_computes_the_last_sample() -> None:
    # 46 frames at 44100 Hz end at 50.07 of 48000 Hz: 51 samples, of which soxr itself gives 50.
    audio = np.zeros((1, 46), dtype=np.float32)
    audio[0, -1] = 1.0
    assert len(soxr.resample(audio.T, 44100, 48000, quality="VHQ")) == 50
    result = resample(audio, orig_rate=44100, target_rate=48000)
    longer = resample(np.pad(audio, ((0, 0), (0, 99))), orig_rate=44100, target_rate=48000)
    assert result.shape == (1, 51)
    assert abs(result[0, -1]) > 0.01
    np.testing.assert_allclose(result, longer[:, :51], atol=1e-6)


def test_sinc_is_the_default_of_torchaudio() -> None:
    audio = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 2, 5000)))
    expected = torchaudio.functional.resample(audio, 44100, 16000)
    assert torch.equal(sinc_resample(audio, orig_rate=44100, target_rate=16000), expected)


@pytest.mark.parametrize(
    ("orig_rate", "target_rate", "taps"),
    # target / g phases of 2 ceil(6 orig / (0.99 min)) + orig / g taps each.
    [(44100, 44101, 44101 * (14 + 44100)), (44101, 8000, 8000 * (2 * 34 + 44101))],
)
def test_sinc_refuses_kernels_that_fill_the_memory(
    orig_rate: int, target_rate: int, taps: int
) -> None:
    with pytest.raises(ConfigError, match=f"needs {taps} filter taps.*use `resample`"):
        sinc_resample(torch.zeros(10), orig_rate=orig_rate, target_rate=target_rate)


@pytest.mark.parametrize(("orig_rate", "target_rate"), [(0, 8000), (8000, 0), (8000, -1)])
def test_rates_below_one_are_refused(orig_rate: int, target_rate: int) -> None:
    with pytest.raises(ConfigError, match=f"from {orig_rate} Hz to {target_rate} Hz: expected"):
        resample(np.zeros((1, 9), np.float32), orig_rate=orig_rate, target_rate=target_rate)
    with pytest.raises(ConfigError, match=f"from {orig_rate} Hz to {target_rate} Hz: expected"):
        sinc_resample(torch.zeros(9), orig_rate=orig_rate, target_rate=target_rate)


def test_negative_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="length must be 0 samples or more, got -1"):
        resample(np.zeros((1, 9), np.float32), orig_rate=1, target_rate=1, length=-1)
    with pytest.raises(ConfigError, match="length must be 0 samples or more, got -1"):
        sinc_resample(torch.zeros(9), orig_rate=1, target_rate=1, length=-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kept_sinc_filters_change_nothing(dtype: torch.dtype) -> None:
    audio = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 4000))).to(dtype)
    for orig_rate, target_rate in ((32000, 11025), (40000, 22050), (16000, 16000), (48500, 8000)):
        expected = torchaudio.functional.resample(audio, orig_rate, target_rate)
        for _ in range(2):
            result = sinc_resample(audio, orig_rate=orig_rate, target_rate=target_rate)
            assert result.dtype == dtype
            assert torch.equal(result, expected)


def test_sinc_filters_are_made_once_unless_they_are_large() -> None:
    audio, maker = torch.zeros(100), resample_module._sinc_resampler
    maker.cache_clear()
    for _ in range(3):
        sinc_resample(audio, orig_rate=44100, target_rate=16000)
    assert (maker.cache_info().misses, maker.cache_info().hits) == (1, 2)
    sinc_resample(audio.double(), orig_rate=44100, target_rate=16000)  # of its own precision
    assert maker.cache_info().currsize == 2
    # 2003 phases of 2 ceil(6 * 2205 / (0.99 * 2003)) + 2205 taps: 18 MB in float32.
    sinc_resample(audio, orig_rate=22050, target_rate=20030)
    assert maker.cache_info().currsize == 2
    assert maker.cache_info().maxsize == 128


def test_sinc_filters_from_inference_serve_training() -> None:
    resample_module._sinc_resampler.cache_clear()
    with torch.inference_mode():
        sinc_resample(torch.zeros(100), orig_rate=44100, target_rate=16000)
    audio = torch.ones(441, requires_grad=True)
    torch.autograd.backward(sinc_resample(audio, orig_rate=44100, target_rate=16000).sum())
    assert audio.grad is not None
    # Away from the ends the weights of a sample sum to the ratio of the rates, nearly.
    torch.testing.assert_close(
        audio.grad[100:-100], torch.full((241,), 160 / 441), rtol=2e-2, atol=0
    )


@pytest.mark.parametrize(
    ("orig_rate", "target_rate"),
    [(44100, 8000), (8000, 44100), (44100, 44101), (48000, 32000), (4000, 384000), (8000, 8000)],
)
@pytest.mark.parametrize("frames", [0, 1, 7, 5000])
def test_blocks_are_resampled_as_the_whole(orig_rate: int, target_rate: int, frames: int) -> None:
    signal = np.random.default_rng(0).standard_normal((2, frames)).astype(np.float32)
    blocks = [signal[:, start : start + 777] for start in range(0, frames, 777)]
    blocks.insert(1, signal[:, :0])
    found = list(resample_blocks(blocks, channels=2, orig_rate=orig_rate, target_rate=target_rate))
    whole = resample(signal, orig_rate=orig_rate, target_rate=target_rate)
    np.testing.assert_array_equal(np.concatenate(found, axis=1), whole)
