from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfisep_core.errors import ConfigError
from sfisep_core.models.registry import build_model
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import SeparationSettings
from sfisep_core.separation.streaming import separate_stream
from tests.separation.divider import SHARES, Divider, Samples, decibels, noise


def cut(signal: Samples, lengths: list[int]) -> Iterator[Samples]:
    start = 0
    while start < signal.shape[-1]:
        length = lengths.pop(0) if lengths else 4000
        yield signal[..., start : start + length]
        start += length


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(0, 60_000),
    lengths=st.lists(st.integers(0, 20_000), max_size=8),
    segment=st.floats(0.1, 3.0),
    alignment=st.sampled_from([1, 7, 441]),
)
def test_stream_gives_all_of_the_signal(
    frames: int, lengths: list[int], segment: float, alignment: int
) -> None:
    mixture = noise(2, frames)
    model = Divider(alignment=alignment)
    parts = list(separate_stream(model, cut(mixture, lengths), sample_rate=8000, segment=segment))
    stems = np.concatenate([np.zeros((2, 2, 0), dtype=np.float32), *parts], axis=-1)
    expected = np.stack([np.float32(share) * mixture for share in SHARES])
    np.testing.assert_allclose(stems, expected, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_stream_of_a_trained_model_is_the_whole(rate: int) -> None:
    separator = Separator("sfi-conv-tasnet-small", device="cpu")
    mixture = 0.1 * np.cumsum(noise(2, 12 * rate), axis=1) / np.sqrt(rate)
    before = mixture.copy()
    whole = separator.separate((mixture, rate)).stems
    parts = list(separator.stream(cut(mixture, []), sample_rate=rate))
    assert len(parts) > 3
    np.testing.assert_array_equal(mixture, before)
    for name, stem in whole.items():
        streamed = np.concatenate([part[name] for part in parts], axis=-1)
        assert streamed.shape == stem.shape
        assert decibels(streamed - stem, stem) < -60


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("segment", [0.25, 1.0])
def test_latency_is_as_stated(rate: int, segment: float) -> None:
    model = Divider(alignment=441)
    separator = Separator(model, device="cpu")
    taken = 0

    def blocks() -> Iterator[Samples]:
        nonlocal taken
        for block in cut(noise(1, 10 * rate), [100] * 10_000):
            taken += block.shape[-1]
            yield block

    given_out, worst = 0, 0
    for stems in separator.stream(blocks(), sample_rate=rate, segment=segment):
        if taken < 10 * rate:
            worst = max(worst, taken - given_out)
        given_out += stems["stem 0"].shape[-1]
    latency = separator.stream_latency(sample_rate=rate, segment=segment)
    assert latency - 200 / rate < worst / rate <= latency + 100 / rate


def test_arrays_may_be_filled_again_reversed_or_read_only() -> None:
    separator = Separator(Divider(), device="cpu")
    mixture = noise(2, 40_000)

    def blocks() -> Iterator[Samples]:
        buffer = np.zeros((2, 1000), dtype=np.float32)
        for block in cut(mixture[:, :20_000], [1000] * 20):
            buffer[:] = block
            yield buffer
        mixture.flags.writeable = False
        yield mixture[:, 20_000:30_000]
        yield mixture[:, 39_999:29_999:-1]

    parts = [stems["stem 0"] for stems in separator.stream(blocks(), sample_rate=8000)]
    expected = np.concatenate([mixture[:, :30_000], mixture[:, 39_999:29_999:-1]], axis=1)
    np.testing.assert_allclose(np.concatenate(parts, axis=-1), 0.75 * expected, atol=2e-6)


def test_mono_without_channel_axis() -> None:
    separator = Separator(Divider(), device="cpu")
    mixture = noise(30_000)
    parts = list(separator.stream(cut(mixture, []), sample_rate=8000))
    assert {part["stem 1"].ndim for part in parts} == {1}
    joined = np.concatenate([part["stem 1"] for part in parts])
    np.testing.assert_allclose(joined, 0.25 * mixture, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gain_rule": "least-squares"}, "cannot separate a stream"),
        ({"normalizes_level": True}, "cannot separate a stream"),
        ({"invariant": False}, "cannot separate a stream"),
    ],
)
def test_models_that_need_the_whole_signal(settings: dict[str, Any], message: str) -> None:
    separator = Separator(Divider(**settings), device="cpu")
    with pytest.raises(ConfigError, match=message):
        next(separator.stream([noise(1, 10)], sample_rate=8000))


def test_unusable_streams() -> None:
    separator = Separator(Divider(), device="cpu")
    with pytest.raises(ConfigError, match=r"the channels of the first, 2, got 1$"):
        list(separator.stream([noise(2, 10), noise(1, 10)], sample_rate=8000))
    with pytest.raises(ConfigError, match=r"the channels of the first, 2, got none \(shape"):
        list(separator.stream([noise(2, 10), noise(1, 10)[0]], sample_rate=8000))
    with pytest.raises(ConfigError, match="expected finite values"):
        list(separator.stream([np.full((1, 5), np.nan)], sample_rate=8000))
    for segment in (0.0, -1.0, float("nan"), 1e308):
        with pytest.raises(ConfigError, match="seconds above 0"):
            separator.stream_latency(sample_rate=8000, segment=segment)
        with pytest.raises(ConfigError, match="seconds above 0"):
            list(separator.stream([noise(1, 10)], sample_rate=8000, segment=segment))
    resampler = Separator(Divider(), SeparationSettings("resample"), device="cpu")
    with pytest.raises(ConfigError, match="only native"):
        list(resampler.stream([noise(1, 10)], sample_rate=8000))


@pytest.mark.slow
def test_small_real_model_at_the_smallest_segment() -> None:
    torch.manual_seed(0)
    tcn = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 1, "num_stacks": 1}
    model = build_model(
        "sfi-conv-tasnet",
        {
            "num_filters": 16,
            "mask": "free",
            "gain_rule": "mixture-consistent",
            "normalizes_level": False,
            "context_seconds": 1,
            "tcn": {**tcn, "norm": "frame"},
        },
    ).eval()
    mixture = noise(1, 5 * 11025)
    separator = Separator(model, device="cpu")
    whole = separator.separate((mixture, 11025)).stems["drums"]
    parts = [
        stems["drums"] for stems in separator.stream([mixture], sample_rate=11025, segment=0.2)
    ]
    assert decibels(np.concatenate(parts, axis=-1) - whole, whole) < -100
