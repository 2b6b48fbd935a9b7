import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sfisep_core.errors import ConfigError, DeviceError
from sfisep_core.models.contract import GainRule
from sfisep_core.models.registry import build_model
from sfisep_core.separation.settings import SeparationSettings
from tests.separation.divider import SHARES, Divider, decibels, noise, separated


@pytest.mark.parametrize("rate", [8000, 11025])
@pytest.mark.parametrize("invariant", [True, False])
@pytest.mark.parametrize("seconds", [0.0, 1 / 11025, 3.9, 4.0, 4.1, 12.34])
@pytest.mark.parametrize("segment", [None, 0.0, 0.5])
def test_chunks_give_the_input_back(
    rate: int, invariant: bool, seconds: float, segment: float | None
) -> None:
    mixture = noise(2, round(seconds * rate))
    model = Divider(invariant=invariant, alignment=441)
    stems = separated(model, mixture, sample_rate=rate, segment=segment)
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
    stems = separated(model, position, sample_rate=rate)
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
    separated(
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
    stems = separated(model, mixture, sample_rate=8000)
    (heard,) = model.heard
    deviations = heard[0].std(dim=-1).tolist()
    assert deviations == pytest.approx([1.0, 1.0, 0.0], abs=1e-5)
    assert torch.equal(heard[0, 2], torch.full((8000,), 0.5))
    np.testing.assert_allclose(stems[0], mixture, rtol=1e-5)


def test_level_is_that_of_the_whole_signal() -> None:
    model = Divider(normalizes_level=True)
    mixture = noise(1, 80_000)
    mixture[:, 40_000:] *= 10
    separated(model, mixture, sample_rate=8000)
    assert len(model.heard) > 2
    deviation = mixture.std(dtype=np.float64, ddof=1)
    first = model.heard[0][0, 0].numpy()
    np.testing.assert_allclose(first * deviation, mixture[0, : len(first)], rtol=1e-5)


def test_level_is_left_alone_where_the_model_wants_it() -> None:
    model = Divider(normalizes_level=False)
    mixture = 20 * noise(1, 800)
    separated(model, mixture, sample_rate=8000)
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
    stems = separated(model, mixture, sample_rate=8000)
    assert np.isfinite(stems).all()
    np.testing.assert_allclose(stems.sum(axis=0), mixture, atol=1.5e-45, rtol=1e-5)


def test_stems_of_a_wrong_scale_add_up_again() -> None:
    mixture = noise(2, 40_000)
    model = Divider(shares=(3.0, -1.0, 6.0), gain_rule="least-squares")
    stems = separated(model, mixture, sample_rate=8000)
    assert decibels(stems.sum(axis=0) - mixture, mixture) < -120


def test_level_normalisation_leaves_consistent_stems_consistent() -> None:
    mixture = noise(2, 40_000)
    model = Divider(gain_rule="mixture-consistent", normalizes_level=True)
    stems = separated(model, mixture, sample_rate=8000)
    assert decibels(stems.sum(axis=0) - mixture, mixture) < -120


def test_model_is_not_asked_for_gradients() -> None:
    model = Divider()
    separated(model, noise(1, 100), sample_rate=8000)
    assert model.heard[0].is_inference()


# Batches, overlap, precision


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("gain_rule", ["mixture-consistent", "least-squares"])
def test_batches_of_windows_change_nothing(batch_size: int, gain_rule: GainRule) -> None:
    mixture = noise(2, 8000 * 15 + 77)
    model = Divider(gain_rule=gain_rule, normalizes_level=gain_rule == "least-squares")
    one = separated(model, mixture, sample_rate=8000)
    windows = len(model.heard)
    model.heard.clear()
    batches = separated(model, mixture, sample_rate=8000, batch_size=batch_size)
    np.testing.assert_array_equal(batches, one)
    sizes = [len(part) for part in model.heard]
    assert sum(sizes) == windows == 7
    assert max(sizes) == min(batch_size, windows)


def test_shorter_last_window_has_a_batch_of_its_own() -> None:
    model = Divider(alignment=1000)
    mixture = noise(1, 8000 * 15 + 77)
    stems = separated(model, mixture, sample_rate=8000, batch_size=100)
    assert [len(part) for part in model.heard] == [6, 1]
    np.testing.assert_allclose(stems.sum(axis=0), mixture, atol=1e-6)


@pytest.mark.parametrize(
    ("overlap", "context"), [(0.0, 0), (0.5, 8000), (0.8, 32000), (None, 8000)]
)
def test_overlap_is_the_share_of_a_window(overlap: float | None, context: int) -> None:
    model = Divider()
    mixture = noise(1, 8000 * 30)
    stems = separated(model, mixture, sample_rate=8000, segment=2.0, overlap=overlap)
    window = model.heard[0].shape[-1]
    assert window == 16000 + 2 * context
    if overlap is not None:
        assert 2 * context == pytest.approx(overlap * window)
    np.testing.assert_allclose(stems.sum(axis=0), mixture, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"segment": -1.0}, "segment: expected seconds"),
        ({"segment": math.nan}, "segment: expected seconds"),
        ({"overlap": 1.0}, "overlap: expected a share"),
        ({"overlap": -0.1}, "overlap: expected a share"),
        ({"batch_size": 0}, "batch size: expected 1"),
        ({"segment": 1e308}, "segment: expected seconds"),
        ({"precision": "fp8"}, "precision: expected fp32"),
    ],
)
def test_options_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SeparationSettings(**values)


@torch.no_grad()
def test_bf16_computes_the_network_with_fewer_bits() -> None:
    torch.manual_seed(0)
    tcn = {"bottleneck_channels": 16, "hidden_channels": 16, "num_layers": 2, "num_stacks": 1}
    settings = {"num_filters": 32, "tcn": tcn, "gain_rule": "mixture-consistent"}
    model = build_model("sfi-conv-tasnet", {**settings, "mask": "free"}).eval()
    mixture = noise(2, 16000)
    exact = separated(model, mixture, sample_rate=8000)
    fast = separated(model, mixture, sample_rate=8000, precision="bf16")
    assert -100 < decibels(fast - exact, exact) < -30
    # Samples have 32 bits all the same.
    assert decibels(fast.sum(axis=0) - mixture, mixture) < -120


# Too little memory


class Hungry(Divider):
    """Run out of memory where a batch holds more samples than `room`."""

    def __init__(self, *, room: int, error: Exception, **settings: Any) -> None:
        super().__init__(**settings)
        self.room = room
        self.error = error

    def forward(self, mixture: Tensor, *, sample_rate: int) -> Tensor:
        stems = super().forward(mixture, sample_rate=sample_rate)
        if mixture.numel() > self.room:
            raise self.error
        return stems


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu", "numpy"])
def test_batches_are_halved_where_memory_is_short(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    mixture = noise(1, 8000 * 31)
    model = Hungry(room=3 * 32000, error=error)
    stems = separated(model, mixture, sample_rate=8000, batch_size=16)
    np.testing.assert_array_equal(stems, separated(Divider(), mixture, sample_rate=8000))
    # 15 windows: 16 and 8 and 4 at once are too many, and nothing that was done is done again.
    assert [len(part) for part in model.heard] == [15, 8, 4, *[2] * 7, 1]
    advice = [record.message.rpartition("; ")[2] for record in caplog.records]
    assert advice == [f"going on with --batch-size {size}" for size in (8, 4, 2)]


@pytest.mark.parametrize("gain_rule", ["mixture-consistent", "least-squares"])
@pytest.mark.parametrize("segment", [None, 0.0, 16.0])
def test_segments_are_halved_where_memory_is_short(
    gain_rule: GainRule, segment: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    mixture = noise(1, 8000 * 40)
    room = 5 * 8000 if segment != 16.0 else 8 * 8000
    model = Hungry(room=room, error=OUT_OF_MEMORY[0], gain_rule=gain_rule)
    stems = separated(model, mixture, sample_rate=8000, segment=segment, batch_size=2)
    np.testing.assert_allclose(stems.sum(axis=0), mixture, atol=2e-6)
    halved = [record.message for record in caplog.records if "--segment" in record.message]
    assert len(halved) == {None: 0, 0.0: 4, 16.0: 2}[segment]
    assert model.heard[-1].shape[-1] <= room


def test_too_little_memory_for_anything_is_an_error() -> None:
    model = Hungry(room=100, error=OUT_OF_MEMORY[0])
    message = r"device cpu: out of memory even for segments of 1\.0 s at 8000 Hz with 2 channels"
    with pytest.raises(DeviceError, match=message):
        separated(model, noise(2, 80000), sample_rate=8000)


def test_other_errors_are_not_taken_for_too_little_memory() -> None:
    model = Hungry(room=0, error=RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        separated(model, noise(1, 80000), sample_rate=8000, batch_size=4)
    assert len(model.heard) == 1
