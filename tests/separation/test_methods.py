import math

import numpy as np
import pytest
import torch

from sfisep_core.models.contract import GainRule
from sfisep_core.models.registry import build_model
from sfisep_core.separation.methods import separate_native
from tests.separation.divider import SHARES, Divider, decibels, noise


@pytest.mark.parametrize("rate", [8000, 11025])
@pytest.mark.parametrize("invariant", [True, False])
@pytest.mark.parametrize("seconds", [0.0, 1 / 11025, 3.9, 4.0, 4.1, 12.34])
@pytest.mark.parametrize("segment", [None, 0.0, 0.5])
def test_chunks_give_the_input_back(
    rate: int, invariant: bool, seconds: float, segment: float | None
) -> None:
    mixture = noise(2, round(seconds * rate))
    model = Divider(invariant=invariant, alignment=441)
    stems = separate_native(model, mixture, sample_rate=rate, segment=segment)
    assert stems.dtype == np.float32
    expected = np.stack([np.float32(share) * mixture for share in SHARES])
    np.testing.assert_allclose(stems, expected, atol=2e-6)
    assert set(model.rates) <= {rate}
    kept, context = (441 * math.ceil(seconds * rate / 441) for seconds in (2, 1))
    if segment is None and mixture.shape[1] > kept + 2 * context:
        assert len(model.heard) == math.ceil((mixture.shape[1] - 2 * context) / kept)


@pytest.mark.parametrize(("rate", "alignment"), [(44100, 441), (8000, 20), (44101, 44101)])
def test_chunks_start_at_multiples_of_the_alignment(rate: int, alignment: int) -> None:
    position = np.arange(11 * rate + 7, dtype=np.float32)[None]  # exact in float32 up to 2**24
    model = Divider(alignment=alignment)
    stems = separate_native(model, position, sample_rate=rate)
    starts = [int(part[0, 0, 0]) for part in model.heard]
    assert len(starts) >= 4
    assert [start % alignment for start in starts] == [0] * len(starts)
    for part, start in zip(model.heard, starts, strict=True):
        stop = start + part.shape[-1]
        assert torch.equal(part[0, 0], torch.arange(start, stop, dtype=torch.float32))
    lengths = {part.shape[-1] for part in model.heard[:-1]}
    assert len(lengths) == 1
    assert lengths.pop() - model.heard[-1].shape[-1] in range(alignment)
    np.testing.assert_allclose(stems.sum(axis=0), position, rtol=1e-6)


def test_released_grid_decides_the_alignment() -> None:
    tcn = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 1, "num_stacks": 1}
    model = build_model("sfi-conv-tasnet", {"num_filters": 8, "tcn": tcn})
    assert [model.chunk_alignment(rate) for rate in (8000, 44100, 22050, 11025)] == [
        20,
        441,
        441,
        441,
    ]


@pytest.mark.parametrize("segment", [None, 0.0])
def test_progress_reaches_the_end(segment: float | None) -> None:
    calls: list[tuple[float, float]] = []
    separate_native(
        Divider(),
        noise(1, 90_001),
        sample_rate=8000,
        segment=segment,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert {total for _, total in calls} == {90_001 / 8000}
    done = [done for done, _ in calls]
    assert done == sorted(set(done))
    assert done[-1] == 90_001 / 8000
    assert len(done) == (1 if segment == 0.0 else 5)


def test_level_is_normalised_per_channel() -> None:
    model = Divider(normalizes_level=True, gain_rule="least-squares", shares=(1.0,))
    mixture = noise(3, 8000) * np.array([[1e-3], [20.0], [0.0]], dtype=np.float32)
    mixture[2] = 0.5  # a constant has no deviation
    stems = separate_native(model, mixture, sample_rate=8000)
    (heard,) = model.heard
    deviations = heard[0].std(dim=-1).tolist()
    assert deviations == pytest.approx([1.0, 1.0, 0.0], abs=1e-5)
    assert torch.equal(heard[0, 2], torch.full((8000,), 0.5))
    np.testing.assert_allclose(stems[0], mixture, rtol=1e-5)


def test_level_is_that_of_the_whole_signal() -> None:
    model = Divider(normalizes_level=True)
    mixture = noise(1, 80_000)
    mixture[:, 40_000:] *= 10
    separate_native(model, mixture, sample_rate=8000)
    assert len(model.heard) > 2
    deviation = mixture.std(dtype=np.float64, ddof=1)
    first = model.heard[0][0, 0].numpy()
    np.testing.assert_allclose(first * deviation, mixture[0, : len(first)], rtol=1e-5)


def test_level_is_left_alone_where_the_model_wants_it() -> None:
    model = Divider(normalizes_level=False)
    mixture = 20 * noise(1, 800)
    separate_native(model, mixture, sample_rate=8000)
    assert torch.equal(model.heard[0][0], torch.from_numpy(mixture))


@pytest.mark.parametrize("gain_rule", ["least-squares", "mixture-consistent"])
@pytest.mark.parametrize("frames", [1, 2, 4000])
@pytest.mark.parametrize("level", [0.0, 1e-45, 1e-30, 1e-10])
def test_silence_and_near_silence_stay_what_they_are(
    gain_rule: GainRule, frames: int, level: float
) -> None:
    mixture = np.zeros((2, frames), dtype=np.float32)
    mixture[:, -1] = level  # 1e-45 is the smallest number of float32
    model = Divider(normalizes_level=True, gain_rule=gain_rule)
    stems = separate_native(model, mixture, sample_rate=8000)
    assert np.isfinite(stems).all()
    np.testing.assert_allclose(stems.sum(axis=0), mixture, atol=1.5e-45, rtol=1e-5)


def test_stems_of_a_wrong_scale_add_up_again() -> None:
    mixture = noise(2, 40_000)
    model = Divider(shares=(3.0, -1.0, 6.0), gain_rule="least-squares")
    stems = separate_native(model, mixture, sample_rate=8000)
    assert decibels(stems.sum(axis=0) - mixture, mixture) < -120


def test_level_normalisation_leaves_consistent_stems_consistent() -> None:
    mixture = noise(2, 40_000)
    model = Divider(gain_rule="mixture-consistent", normalizes_level=True)
    stems = separate_native(model, mixture, sample_rate=8000)
    assert decibels(stems.sum(axis=0) - mixture, mixture) < -120


def test_model_is_not_asked_for_gradients() -> None:
    model = Divider()
    separate_native(model, noise(1, 100), sample_rate=8000)
    assert model.heard[0].is_inference()
