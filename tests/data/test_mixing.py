import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchaudio.functional
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sfisep_core.audio.files import read_audio
from sfisep_core.data.augmentation import draw_changes, draw_levels
from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.equalizer import equalizer_response
from sfisep_core.data.layouts import STEMS
from sfisep_core.data.mixing import (
    MixingConfig,
    RawBatch,
    StepDraw,
    draw_example,
    draw_step,
    mix_batch,
)
from sfisep_core.errors import DatasetError

RATE = 8000
SECONDS = 5
BATCH = 60  # examples of a step; tests look at the first of them
PROBABILITIES = [f.name for f in fields(MixingConfig) if f.name.endswith("_probability")]

# Nothing is drawn but the place and the channel.
PLAIN = MixingConfig(
    **{**dict.fromkeys(PROBABILITIES, 0.0), "random_channel_probability": 1.0},
    excerpt_seconds=1.0,
    sample_rates=(RATE,),
)

Samples = npt.NDArray[np.float64]
MakeData = Callable[..., Path]


def noise(track: int, stem: int, *, frames: int = SECONDS * RATE) -> Samples:
    """Give stereo noise that differs between tracks, stems and channels."""
    rng = np.random.default_rng([track, stem])
    return np.asarray(rng.integers(-8000, 8000, (frames, 2)) / 32768)


def open_data(data: Path, config: MixingConfig) -> StemDataset:
    return StemDataset(data, split="train", excerpt_seconds=config.stored_seconds)


def read_raw(
    dataset: StemDataset,
    config: MixingConfig,
    *,
    sources: Sequence[str] = STEMS,
    seed: int = 0,
    step: int = 0,
    examples: Sequence[int] = range(2),
) -> RawBatch:
    return RawBatch.stack(
        [
            draw_example(
                dataset, sources, config, seed=seed, step=step, example=example, batch_size=BATCH
            )
            for example in examples
        ]
    )


def draw_batch(
    dataset: StemDataset, config: MixingConfig, *, seed: int = 0, step: int = 0, **which: Any
) -> Tensor:
    raw = read_raw(dataset, config, seed=seed, step=step, **which)
    draw = draw_step(config, seed=seed, step=step)
    return mix_batch(raw, draw, config, stored_rate=dataset.sample_rate)


def find(excerpt: npt.NDArray[np.float32], tracks: npt.NDArray[np.float32]) -> tuple[int, int, int]:
    """Find an excerpt in (track, channel, time) and return where it is."""
    windows = np.lib.stride_tricks.sliding_window_view(tracks, 8, axis=2)
    ((track, channel, start),) = np.argwhere((windows == excerpt[:8]).all(axis=-1))
    np.testing.assert_array_equal(excerpt, tracks[track, channel, start : start + len(excerpt)])
    return int(track), int(channel), int(start)


def read_tracks(dataset: StemDataset) -> npt.NDArray[np.float32]:
    """Read all stems, shape (track, source, channel, time)."""
    return np.stack(
        [
            [read_audio(dataset.folder / track.stems[stem])[0] for stem in STEMS]
            for track in dataset.tracks
        ]
    )


def test_same_numbers_give_the_same_batch(make_data: MakeData) -> None:
    config = MixingConfig(excerpt_seconds=1.5, sample_rates=(4000, 8000, 11025))
    dataset = open_data(make_data(noise), config)
    first = draw_batch(dataset, config, seed=0, step=3)
    assert torch.equal(first, draw_batch(dataset, config, seed=0, step=3))
    for seed, step in ((1, 3), (0, 4)):
        other = draw_batch(dataset, config, seed=seed, step=step)
        assert first.shape != other.shape or not torch.allclose(first, other)


@pytest.mark.parametrize("step", range(4))
def test_an_example_does_not_depend_on_its_batch(step: int, make_data: MakeData) -> None:
    config = MixingConfig(
        excerpt_seconds=0.5,
        sample_rates=(4000, 11025),
        lowpass_probability=0.5,
        equalizer_probability=0.5,
    )
    dataset = open_data(make_data(noise), config)
    batch = draw_batch(dataset, config, seed=7, step=step, examples=range(5))
    for example in range(5):
        alone = draw_batch(dataset, config, seed=7, step=step, examples=[example])
        torch.testing.assert_close(alone[0], batch[example], rtol=0, atol=1e-6)
    assert not torch.allclose(batch[0], batch[1])


def test_every_rate_is_drawn_and_gives_its_length(make_data: MakeData) -> None:
    rates = (4000, 8000, 11025, 16000)
    config = replace(PLAIN, sample_rates=rates)
    dataset = open_data(make_data(noise), config)
    drawn = []
    for step in range(40):
        rate = draw_step(config, seed=0, step=step).sample_rate
        stems = draw_batch(dataset, config, step=step, examples=[0])
        assert stems.shape == (1, 4, 1, rate)
        assert stems.dtype == torch.float32
        drawn.append(rate)
    assert set(drawn) == set(rates)


# 11025 and 22050 Hz are not multiples of 100 Hz.
@pytest.mark.parametrize("rate", [8000, 11025, 22050])
def test_plain_excerpts_are_exactly_in_the_data(rate: int, make_data: MakeData) -> None:
    data = make_data(lambda track, stem: noise(track, stem, frames=2 * rate), rates=(rate, rate))
    config = replace(PLAIN, excerpt_seconds=0.5, sample_rates=(rate,))
    dataset = open_data(data, config)
    sources = ("bass", "vocals")
    stems = draw_batch(dataset, config, sources=sources, examples=range(8))
    assert stems.shape == (8, 2, 1, round(0.5 * rate))
    tracks = read_tracks(dataset)
    places, channels = set(), set()
    for example in stems[:, :, 0].numpy():
        found = [
            find(excerpt, tracks[:, STEMS.index(source)])
            for source, excerpt in zip(sources, example, strict=True)
        ]
        assert len({(track, start) for track, _, start in found}) == 1  # stems stay together
        places.add((found[0][0], found[0][2]))
        channels |= {channel for _, channel, _ in found}
    assert len(places) == 8
    assert {track for track, _ in places} == {0, 1}
    assert channels == {0, 1}


@pytest.mark.slow
def test_everything_at_once_is_what_was_drawn(make_data: MakeData) -> None:
    config = MixingConfig(
        **dict.fromkeys(PROBABILITIES, 0.7),
        excerpt_seconds=0.5,
        channels=2,
        speeds=(0.8, 1.25),
        sample_rates=(5000, 16000),
    )
    dataset = open_data(make_data(noise), config)
    tracks = read_tracks(dataset)
    seen = set()
    for step in range(12):
        draw = draw_step(config, seed=1, step=step)
        seen.add(draw)
        raw = read_raw(dataset, config, seed=1, step=step, examples=[4])
        changes = draw_changes(STEMS, config, seed=1, step=step, example=4)
        played = {0.8: 6400, 1.0: 8000, 1.25: 10000}[draw.speed]
        length = draw.sample_rate // 2
        mixed = mix_batch(raw, draw, config, stored_rate=RATE)
        assert mixed.shape == (1, 4, 2, length)
        for source in range(4):
            if changes.gains[source] == 0:
                assert not mixed[0, source].any()
                assert not raw.stems[0, source].any()
                continue
            # 1. the excerpt, its channels perhaps swapped
            stored = raw.stems[0, source]
            assert stored.shape == (2, played // 2)
            swapped = changes.channels[source].swap
            places = [find(channel.numpy(), tracks[:, source]) for channel in stored]
            assert [channel for _, channel, _ in places] == ([1, 0] if swapped else [0, 1])
            # 2. speed and rate, 3. band limit
            expected = torchaudio.functional.resample(stored.double(), played, draw.sample_rate)
            expected = expected[:, :length]
            if draw.band_limit:
                assert (draw.sample_rate, draw.band_limit) == (16000, 5000)
                expected = torchaudio.functional.resample(expected, 16000, 5000)
                expected = torchaudio.functional.resample(expected, 5000, 16000)[:, :length]
            # 4. equaliser, as a filter of any longer FFT; 5. gain, polarity
            spectrum = torch.fft.rfft(expected, n=4 * length)
            frequencies = torch.arange(2 * length + 1) * draw.sample_rate / (4 * length)
            curve = torch.from_numpy(changes.curves[source]).double()
            spectrum *= 10 ** (equalizer_response(curve, frequencies.double()) / 20)
            expected = torch.fft.irfft(spectrum)[:, :length] * float(changes.gains[source])
            error = (mixed[0, source] - expected).square().sum() / expected.square().sum()
            assert 10 * math.log10(error) < -60
    assert {draw.speed for draw in seen} == {0.8, 1.0, 1.25}
    assert {draw.band_limit for draw in seen} == {0, 5000}


def test_mixing_in_float64(make_data: MakeData) -> None:
    config = MixingConfig(
        **dict.fromkeys(PROBABILITIES, 0.5), excerpt_seconds=0.5, sample_rates=(8000, 11025)
    )
    dataset = open_data(make_data(noise), config)
    for step in range(6):
        raw, draw = read_raw(dataset, config, step=step), draw_step(config, seed=0, step=step)
        double = raw.to("cpu", dtype=torch.float64)
        assert double.stems.dtype == double.gains.dtype == double.curves.dtype == torch.float64
        exact = mix_batch(double, draw, config, stored_rate=RATE)
        assert exact.dtype == torch.float64
        single = mix_batch(raw, draw, config, stored_rate=RATE)
        torch.testing.assert_close(single.double(), exact, rtol=0, atol=2e-5)
        again = mix_batch(raw.to("cpu"), draw, config, stored_rate=RATE)
        assert torch.equal(again, single)


class Watch(TorchDispatchMode):
    """Notice every operation in which a device and the processor meet."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []
        self.meetings: list[str] = []

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in (*args, result) if isinstance(x, Tensor)]
        self.operations.append(str(func))
        if len({x.device.type for x in tensors}) > 1:
            self.meetings.append(str(func))
        return result


@pytest.mark.parametrize("dynamic", [False, True])
def test_nothing_waits_for_the_device(dynamic: bool, make_data: MakeData) -> None:
    # Tensors of the meta device hold no values: whoever asks for one fails.
    config = MixingConfig(
        **dict.fromkeys(PROBABILITIES, 1.0), excerpt_seconds=0.5, dynamic_levels=dynamic
    )
    dataset = open_data(make_data(noise), config)
    for step in range(4):
        draw = draw_step(config, seed=0, step=step)
        raw = read_raw(dataset, config, step=step).to("meta")
        mix_batch(raw, draw, config, stored_rate=RATE)  # makes the resampler's filters
        with Watch() as watch:
            stems = mix_batch(raw, draw, config, stored_rate=RATE)
        assert stems.shape == (2, 4, 1, draw.sample_rate // 2)
        assert len(watch.operations) > 20
        assert watch.meetings == []


@pytest.mark.gpu
def test_nothing_waits_for_a_gpu(make_data: MakeData) -> None:
    config = MixingConfig(**dict.fromkeys(PROBABILITIES, 1.0), excerpt_seconds=0.5)
    dataset = open_data(make_data(noise), config)
    draw = draw_step(config, seed=0, step=0)
    raw = read_raw(dataset, config)
    pinned = raw.pin_memory()
    assert pinned.stems.is_pinned()
    first = mix_batch(pinned.to("cuda"), draw, config, stored_rate=RATE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        second = mix_batch(pinned.to("cuda"), draw, config, stored_rate=RATE)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(first, second)
    expected = mix_batch(raw, draw, config, stored_rate=RATE)
    torch.testing.assert_close(second.cpu(), expected, rtol=0, atol=1e-2)  # TF32


def constant(track: int, stem: int) -> Samples:
    """Give a level that tells track and stem, exact in 16 bits."""
    return np.full(SECONDS * RATE, (1 + track * 4 + stem) / 32)


@pytest.mark.parametrize("remix", [0.0, 1.0])
def test_remixing_takes_stems_from_different_tracks(remix: float, make_data: MakeData) -> None:
    config = replace(PLAIN, remix_probability=remix)
    stems = draw_batch(open_data(make_data(constant), config), config, examples=range(32))
    levels = (stems[:, :, 0, 0] * 32 - 1).round().int()
    assert torch.equal(levels % 4, torch.arange(4).expand(32, 4).int())
    mixed = (levels // 4 != levels[:, :1] // 4).any(dim=1)
    # Of four stems from two tracks, 7 in 8 are expected to be mixed.
    assert mixed.sum() == 0 if remix == 0 else mixed.sum() > 20


# Excerpts of half a second start anywhere, those of one where a second does.
SHORT = replace(PLAIN, excerpt_seconds=0.5)


def find_places(dataset: StemDataset, config: MixingConfig, examples: int) -> list[list[Any]]:
    """Give track and start of every stem of the examples, from a data set of noise."""
    tracks = read_tracks(dataset)
    stems = draw_batch(dataset, config, examples=range(examples))
    return [
        [find(excerpt[0].numpy(), tracks[:, source])[::2] for source, excerpt in enumerate(example)]
        for example in stems
    ]


@pytest.mark.slow
@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_single_stems_are_replaced(probability: float, make_data: MakeData) -> None:
    dataset = open_data(make_data(noise), SHORT)
    plain = find_places(dataset, SHORT, 50)
    found = find_places(dataset, replace(SHORT, replace_probability=probability), 50)
    pairs = list(zip(*(itertools.chain(*places) for places in (plain, found)), strict=True))
    # Those that are not stay where they were; within four standard deviations.
    share = sum(one != other for one, other in pairs) / len(pairs)
    assert share == pytest.approx(
        probability, abs=4 * math.sqrt(probability * (1 - probability) / len(pairs))
    )
    moved = [other for one, other in pairs if one != other]
    assert len(set(moved)) == len(moved)  # each to a place of its own
    if probability:
        assert {track for track, _ in moved} == {0, 1}


def test_replaced_stems_play(make_data: MakeData) -> None:
    config = replace(PLAIN, replace_probability=1.0, active_probability=1.0)
    stems = draw_batch(open_data(make_data(one_active_second), config), config, examples=range(16))
    assert torch.equal((stems > 0.2).sum(dim=(2, 3)) >= RATE - 20, torch.ones(16, 4).bool())


@pytest.mark.slow
def test_examples_exchange_their_stems(make_data: MakeData) -> None:
    dataset = open_data(make_data(noise), SHORT)
    plain = find_places(dataset, SHORT, BATCH)
    found = find_places(dataset, replace(SHORT, exchange_probability=1.0), BATCH)
    for source in range(4):
        before, after = ([places[source] for places in batch] for batch in (plain, found))
        assert sorted(before) == sorted(after)  # what is drawn is heard, once
        assert sum(one == other for one, other in zip(before, after, strict=True)) < 10
    assert all(len(set(places)) == 1 for places in plain)
    # The stems of an example come from four others.
    assert sum(len(set(places)) == 4 for places in found) > 45
    # Half of the examples: the rest are as they were.
    half = find_places(dataset, replace(SHORT, exchange_probability=0.5), BATCH)
    whole = [one == other for one, other in zip(plain, half, strict=True)]
    assert 15 < sum(whole) < 45
    for source in range(4):
        assert sorted(p[source] for p in half) == sorted(p[source] for p in plain)


def test_gain_polarity_and_muting(make_data: MakeData) -> None:
    config = replace(PLAIN, gain_probability=1.0, flip_probability=0.25, mute_probability=0.3)
    dataset = open_data(make_data(constant), config)
    levels = draw_batch(dataset, config, examples=range(50))[..., 0, 0]
    plain = draw_batch(dataset, PLAIN, examples=range(50))[..., 0, 0]
    gains = [
        draw_changes(STEMS, config, seed=0, step=0, example=example).gains for example in range(50)
    ]
    torch.testing.assert_close(levels, plain * torch.from_numpy(np.stack(gains)), rtol=0, atol=0)
    assert (levels == 0).any()
    assert (levels < 0).any()


def test_what_is_muted_is_not_read(make_data: MakeData) -> None:
    config = replace(PLAIN, mute_probability=1.0)
    dataset = open_data(make_data(constant), config)
    for track in range(2):
        (dataset.folder / f"train/track{track}/other.wav").unlink()
    stems = draw_batch(dataset, config, examples=range(20))
    heard = (stems != 0).any(dim=-1)[..., 0]
    assert torch.equal(heard.sum(dim=1), torch.ones(20, dtype=torch.int64))
    assert heard[:, :3].any(dim=0).all()  # each of the three in turn


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_stems_of_one_place_are_shifted(shift: float, make_data: MakeData) -> None:
    config = replace(PLAIN, excerpt_seconds=0.5, shift_probability=shift, shift_seconds=100 / RATE)
    dataset = open_data(make_data(noise), config)
    tracks = read_tracks(dataset)
    plain = draw_batch(dataset, replace(config, shift_probability=0.0), examples=range(20))
    shifts = []
    for example, shifted in zip(
        plain, draw_batch(dataset, config, examples=range(20)), strict=True
    ):
        for source in range(4):
            track, channel, start = find(example[source, 0].numpy(), tracks[:, source])
            moved = find(shifted[source, 0].numpy(), tracks[:, source])
            assert moved[:2] == (track, channel)
            shifts.append(moved[2] - start)
    if shift == 0:
        assert set(shifts) == {0}
    else:
        assert max(map(abs, shifts)) <= 100
        # The mean of 80 of variance (201^2 - 1) / 12 is within four standard deviations.
        assert abs(np.mean(shifts)) < 4 * math.sqrt((201**2 - 1) / 12 / 80)
        assert np.var(shifts) == pytest.approx((201**2 - 1) / 12, rel=0.4)


def one_active_second(track: int, stem: int) -> Samples:
    """Give a stem that plays in one second of one of the tracks only."""
    signal = np.zeros(SECONDS * RATE)
    if track == stem % 2:
        signal[(1 + stem) * RATE : (2 + stem) * RATE] = 0.25
    return signal


@pytest.mark.parametrize("speed", [0.5, 1.0])
def test_active_draws_hit_active_seconds(speed: float, make_data: MakeData) -> None:
    # What is played at half its speed is read for half as long: it holds half of the second.
    config = replace(
        PLAIN,
        remix_probability=1.0,
        active_probability=1.0,
        speed_probability=1.0,
        speeds=(speed,),
    )
    stems = draw_batch(open_data(make_data(one_active_second), config), config, examples=range(16))
    assert torch.equal((stems > 0.2).sum(dim=(2, 3)) >= RATE - 20, torch.ones(16, 4).bool())


def test_draws_without_activity_are_uniform(make_data: MakeData) -> None:
    config = replace(PLAIN, remix_probability=1.0)
    stems = draw_batch(open_data(make_data(one_active_second), config), config, examples=range(100))
    heard = (stems > 0).any(dim=-1).float().mean().item()
    # Starts in 2 of 2 x 4 s hear the second, for "other" (the last second) in 1 of 8. Four standard
    # deviations of 400 draws at 7/32 are 0.083.
    assert heard == pytest.approx(7 / 32, abs=0.083)


def test_a_split_without_active_seconds_still_gives_examples(make_data: MakeData) -> None:
    config = replace(PLAIN, remix_probability=1.0, active_probability=1.0)
    data = make_data(lambda *_: np.zeros(SECONDS * RATE))
    assert not draw_batch(open_data(data, config), config).any()


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.0, 1.1, 1.25])
@pytest.mark.parametrize("rate", [8000, 11025, 16000])
def test_speed_shifts_pitch_by_the_factor(speed: float, rate: int, make_data: MakeData) -> None:
    frequency = 500.0
    time = np.arange(SECONDS * RATE) / RATE
    config = replace(PLAIN, speed_probability=1.0, speeds=(speed,), sample_rates=(rate,))
    assert config.stored_seconds == speed
    data = make_data(lambda *_: 0.5 * np.sin(2 * np.pi * frequency * time))
    dataset = open_data(data, config)
    raw = read_raw(dataset, config, sources=("vocals",), examples=[0])
    assert raw.stems.shape[-1] == round(speed * RATE)  # no more is read than is heard
    stems = draw_batch(dataset, config, sources=("vocals",), examples=[0])
    assert stems.shape[-1] == rate
    heard = stems[0, 0, 0, 100:-100].double().numpy()

    def residual(factor: float) -> float:
        phase = 2 * np.pi * factor * frequency * np.arange(len(heard)) / rate
        basis = np.stack([np.cos(phase), np.sin(phase)], axis=1)
        fit = basis @ np.linalg.lstsq(basis, heard, rcond=None)[0]
        return float(np.linalg.norm(heard - fit) / np.linalg.norm(heard))

    assert residual(speed) < 1e-2
    assert residual(speed * 1.001) > 0.5  # an octave in 1000 would not go unnoticed


def test_band_limit_removes_what_is_above(make_data: MakeData) -> None:
    dataset = open_data(make_data(noise), PLAIN)
    raw = read_raw(dataset, PLAIN)

    def share_above(band_limit: int) -> float:
        stems = mix_batch(raw, StepDraw(RATE, 1.0, band_limit), PLAIN, stored_rate=RATE)
        power = torch.fft.rfft(stems).abs().square().sum(dim=(0, 1, 2))
        return 10 * math.log10(float(power[2400:].sum() / power.sum()))

    assert share_above(4000) < -40.0
    assert share_above(0) == pytest.approx(10 * math.log10(0.4), abs=0.1)


def test_stem_shorter_than_the_manifest_says(make_data: MakeData) -> None:
    config = replace(PLAIN, excerpt_seconds=4.0)
    dataset = open_data(make_data(noise), config)
    for track in range(2):
        path = dataset.folder / f"train/track{track}/drums.wav"
        path.write_bytes(path.read_bytes()[:1000])
    message = r"drums\.wav: expected 40000 frames as manifest\.json says, found \d+:"
    with pytest.raises(DatasetError, match=message):
        draw_example(dataset, STEMS, config, seed=0, step=0, example=0, batch_size=1)


DYNAMIC = replace(PLAIN, remix_probability=1.0, dynamic_levels=True, flip_probability=0.5)


def test_levels_of_dynamic_mixing_are_those_drawn(make_data: MakeData) -> None:
    dataset = open_data(make_data(noise), DYNAMIC)
    stems = draw_batch(dataset, DYNAMIC, examples=range(20))
    levels = 20 * torch.log10(stems.abs().mean(dim=(2, 3)))
    for example, found in enumerate(levels):
        drawn = torch.from_numpy(draw_levels(4, seed=0, step=0, example=example))
        # One factor for all stems of an example stays unknown.
        expected = drawn - drawn[0]
        torch.testing.assert_close(found.double() - found[0], expected, rtol=0, atol=1e-3)
    heard = torch.cat([stems, stems.sum(dim=1, keepdim=True)], dim=1)
    peaks = heard.abs().amax(dim=(1, 2, 3))
    torch.testing.assert_close(peaks, torch.full((20,), 0.9), rtol=1e-5, atol=0)


def test_dynamic_mixing_changes_levels_alone(make_data: MakeData) -> None:
    dataset = open_data(make_data(noise), DYNAMIC)
    plain = draw_batch(dataset, replace(DYNAMIC, dynamic_levels=False), examples=range(8))
    factors = draw_batch(dataset, DYNAMIC, examples=range(8)) / plain
    factors = factors.masked_fill(plain == 0, torch.nan)[..., 0, :]
    spread = factors.nan_to_num(1e9).amin(-1) / factors.nan_to_num(-1e9).amax(-1)
    torch.testing.assert_close(spread, torch.ones(8, 4), rtol=1e-4, atol=0)
    assert (factors.nanmean(-1) > 0).all()  # the polarity, too, is as it was


def test_dynamic_mixing_of_silence(make_data: MakeData) -> None:
    config = replace(DYNAMIC, equalizer_probability=0.5, mute_probability=0.5, channels=2)
    data = make_data(lambda track, stem: noise(track, stem) * (stem > 1))
    stems = draw_batch(open_data(data, config), config, examples=range(20))
    assert torch.isfinite(stems).all()
    assert not stems[:, :2].any()
    silent = (stems == 0).flatten(1).all(dim=1)
    peaks = torch.cat([stems, stems.sum(dim=1, keepdim=True)], dim=1).abs().amax(dim=(1, 2, 3))
    torch.testing.assert_close(peaks, torch.where(silent, 0.0, 0.9), rtol=1e-5, atol=0)
    assert silent.any()
    assert not silent.all()
