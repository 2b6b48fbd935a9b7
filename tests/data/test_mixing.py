import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from sfisep_core.audio.files import read_audio
from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.layouts import STEMS
from sfisep_core.data.mixing import MixingConfig, draw_batch
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import ConfigError, DatasetError

RATE = 8000
SECONDS = 5

# Nothing is drawn but the place and the channel.
PLAIN = MixingConfig(
    excerpt_seconds=1.0,
    remix_probability=0.0,
    active_probability=0.0,
    gain_db=0.0,
    flip_probability=0.0,
    sample_rates=(RATE,),
    speeds=(1.0,),
    lowpass_probability=0.0,
)

Samples = npt.NDArray[np.float64]
MakeData = Callable[..., Path]


@pytest.fixture
def make_data(tmp_path: Path) -> MakeData:
    """Prepare a data set of two tracks; `signal(track, stem)` gives samples of full scale 1."""

    def make(signal: Callable[[int, int], Samples], *, rate: int = RATE) -> Path:
        for track in range(2):
            folder = tmp_path / f"in/train/track{track}"
            folder.mkdir(parents=True)
            for stem, name in enumerate(STEMS):
                soundfile.write(folder / f"{name}.wav", signal(track, stem), rate, subtype="PCM_16")
        # With a track for validation none of the others is held out.
        (tmp_path / "in/valid/tiny").mkdir(parents=True)
        for name in STEMS:
            soundfile.write(tmp_path / f"in/valid/tiny/{name}.wav", np.zeros(8), rate)
        return prepare_dataset(tmp_path / "in", tmp_path / "data").folder

    return make


def noise(track: int, stem: int, *, frames: int = SECONDS * RATE) -> Samples:
    """Give stereo noise that differs between tracks, stems and channels."""
    rng = np.random.default_rng([track, stem])
    return np.asarray(rng.integers(-8000, 8000, (frames, 2)) / 32768)


def find(excerpt: npt.NDArray[np.float32], tracks: npt.NDArray[np.float32]) -> tuple[int, int, int]:
    """Find an excerpt in (track, channel, time) and return where it is."""
    windows = np.lib.stride_tricks.sliding_window_view(tracks, 8, axis=2)
    ((track, channel, start),) = np.argwhere((windows == excerpt[:8]).all(axis=-1))
    np.testing.assert_array_equal(excerpt, tracks[track, channel, start : start + len(excerpt)])
    return int(track), int(channel), int(start)


def test_same_numbers_give_the_same_batch(make_data: MakeData) -> None:
    dataset = StemDataset(make_data(noise), split="train", excerpt_seconds=2.0)
    config = MixingConfig(excerpt_seconds=1.5, sample_rates=(4000, 8000, 11025))

    def draw(*, seed: int = 0, step: int = 3) -> tuple[torch.Tensor, int]:
        return draw_batch(dataset, STEMS, config, seed=seed, step=step, batch_size=2)

    (first, rate), (second, second_rate) = draw(), draw()
    assert rate == second_rate
    assert torch.equal(first, second)
    for (other, _), _ in ((draw(seed=1), "seed"), (draw(step=4), "step")):
        assert first.shape != other.shape or not torch.allclose(first, other)


@pytest.mark.parametrize("step", range(4))
def test_an_example_does_not_depend_on_its_batch(step: int, make_data: MakeData) -> None:
    config = MixingConfig(excerpt_seconds=0.5, sample_rates=(4000, 11025), lowpass_probability=0.5)
    dataset = StemDataset(make_data(noise), split="train", excerpt_seconds=config.stored_seconds)
    batch, rate = draw_batch(dataset, STEMS, config, seed=7, step=step, batch_size=5)
    for example in range(5):
        alone, alone_rate = draw_batch(
            dataset, STEMS, config, seed=7, step=step, batch_size=1, first_example=example
        )
        assert alone_rate == rate
        torch.testing.assert_close(alone[0], batch[example], rtol=0, atol=1e-7)
    assert not torch.allclose(batch[0], batch[1])


def test_every_rate_is_drawn_and_gives_its_length(make_data: MakeData) -> None:
    rates = (4000, 8000, 11025, 16000)
    config = replace(PLAIN, sample_rates=rates)
    dataset = StemDataset(make_data(noise), split="train", excerpt_seconds=1.0)
    drawn = []
    for step in range(40):
        stems, rate = draw_batch(dataset, STEMS, config, seed=0, step=step, batch_size=1)
        assert stems.shape == (1, 4, 1, rate)
        assert stems.dtype == torch.float32
        drawn.append(rate)
    assert set(drawn) == set(rates)


# 11025 and 22050 Hz are not multiples of 100 Hz.
@pytest.mark.parametrize("rate", [8000, 11025, 22050])
def test_plain_excerpts_are_exactly_in_the_data(rate: int, make_data: MakeData) -> None:
    data = make_data(lambda track, stem: noise(track, stem, frames=2 * rate), rate=rate)
    dataset = StemDataset(data, split="train", excerpt_seconds=0.5)
    config = replace(PLAIN, excerpt_seconds=0.5, sample_rates=(rate,))
    sources = ("bass", "vocals")
    stems, drawn_rate = draw_batch(dataset, sources, config, seed=0, step=0, batch_size=8)
    assert drawn_rate == rate
    assert stems.shape == (8, 2, 1, round(0.5 * rate))
    tracks = np.stack(
        [[read_audio(data / track.stems[stem])[0] for stem in STEMS] for track in dataset.tracks]
    )
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


def constant(track: int, stem: int) -> Samples:
    """Give a level that tells track and stem, exact in 16 bits."""
    return np.full(SECONDS * RATE, (1 + track * 4 + stem) / 32)


@pytest.mark.parametrize("remix", [0.0, 1.0])
def test_remixing_takes_stems_from_different_tracks(remix: float, make_data: MakeData) -> None:
    dataset = StemDataset(make_data(constant), split="train", excerpt_seconds=1.0)
    config = replace(PLAIN, remix_probability=remix)
    stems, _ = draw_batch(dataset, STEMS, config, seed=0, step=0, batch_size=32)
    levels = (stems[:, :, 0, 0] * 32 - 1).round().int()
    assert torch.equal(levels % 4, torch.arange(4).expand(32, 4).int())
    mixed = (levels // 4 != levels[:, :1] // 4).any(dim=1)
    # Of four stems from two tracks, 7 in 8 are expected to be mixed.
    assert mixed.sum() == 0 if remix == 0 else mixed.sum() > 20


def test_gain_and_polarity(make_data: MakeData) -> None:
    dataset = StemDataset(make_data(constant), split="train", excerpt_seconds=1.0)
    config = replace(PLAIN, gain_db=6.0, flip_probability=0.25)
    stems, _ = draw_batch(dataset, STEMS, config, seed=0, step=0, batch_size=100)
    levels = stems[:, :, 0, 0].numpy()
    plain, _ = draw_batch(
        dataset,
        STEMS,
        replace(config, gain_db=0.0, flip_probability=0.0),
        seed=0,
        step=0,
        batch_size=100,
    )
    ratio = levels / plain[:, :, 0, 0].numpy()
    decibels = 20 * np.log10(np.abs(ratio))
    assert np.abs(decibels).max() <= 6.0 + 1e-5
    assert decibels.max() > 5.5
    assert decibels.min() < -5.5
    # 400 draws at 1/4: four standard deviations are 0.087.
    assert (ratio < 0).mean() == pytest.approx(0.25, abs=0.087)


def one_active_second(track: int, stem: int) -> Samples:
    """Give a stem that plays in one second of one of the tracks only."""
    signal = np.zeros(SECONDS * RATE)
    if track == stem % 2:
        signal[(1 + stem) * RATE : (2 + stem) * RATE] = 0.25
    return signal


@pytest.mark.parametrize(
    ("seconds", "active_frames"), [(1.0, RATE), (1.5, RATE), (4.9, RATE), (0.25, RATE // 4)]
)
def test_active_draws_hit_active_seconds(
    seconds: float, active_frames: int, make_data: MakeData
) -> None:
    dataset = StemDataset(make_data(one_active_second), split="train", excerpt_seconds=seconds)
    config = replace(PLAIN, excerpt_seconds=seconds, remix_probability=1.0, active_probability=1.0)
    stems, _ = draw_batch(dataset, STEMS, config, seed=0, step=0, batch_size=16)
    # The whole active second, or as much of it as the excerpt can hold.
    assert torch.equal((stems > 0).sum(dim=(2, 3)), torch.full((16, 4), active_frames))
    if seconds == 1.5:  # and it comes at any place of the excerpt
        starts = (stems[:, :, 0] > 0).int().argmax(dim=-1)
        assert len(set(starts.flatten().tolist())) > 32


def test_draws_without_activity_are_uniform(make_data: MakeData) -> None:
    dataset = StemDataset(make_data(one_active_second), split="train", excerpt_seconds=1.0)
    config = replace(PLAIN, remix_probability=1.0)
    stems, _ = draw_batch(dataset, STEMS, config, seed=0, step=0, batch_size=100)
    heard = (stems > 0).any(dim=-1).float().mean().item()
    # Starts in 2 of 2 x 4 s hear the second, for "other" (the last second) in 1 of 8. Four standard
    # deviations of 400 draws at 7/32 are 0.083.
    assert heard == pytest.approx(7 / 32, abs=0.083)


def test_a_split_without_active_seconds_still_gives_examples(make_data: MakeData) -> None:
    data = make_data(lambda *_: np.zeros(SECONDS * RATE))
    dataset = StemDataset(data, split="train", excerpt_seconds=1.0)
    config = replace(PLAIN, remix_probability=1.0, active_probability=1.0)
    stems, _ = draw_batch(dataset, STEMS, config, seed=0, step=0, batch_size=2)
    assert not stems.any()


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.0, 1.1, 1.25])
@pytest.mark.parametrize("rate", [8000, 11025, 16000])
def test_speed_shifts_pitch_by_the_factor(speed: float, rate: int, make_data: MakeData) -> None:
    frequency = 500.0
    time = np.arange(SECONDS * RATE) / RATE
    dataset = StemDataset(
        make_data(lambda *_: 0.5 * np.sin(2 * np.pi * frequency * time)),
        split="train",
        excerpt_seconds=speed,
    )
    config = replace(PLAIN, speeds=(speed,), sample_rates=(rate,))
    assert config.stored_seconds == speed
    stems, _ = draw_batch(dataset, ("vocals",), config, seed=0, step=0, batch_size=1)
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
    dataset = StemDataset(make_data(noise), split="train", excerpt_seconds=1.0)
    config = replace(PLAIN, sample_rates=(4000, 8000))

    def share_above(lowpass: float, step: int) -> float | None:
        stems, rate = draw_batch(
            dataset,
            STEMS,
            replace(config, lowpass_probability=lowpass),
            seed=0,
            step=step,
            batch_size=1,
        )
        if rate == 4000:
            return None  # nothing lower to limit to
        power = torch.fft.rfft(stems).abs().square().sum(dim=(0, 1, 2))
        return 10 * math.log10(float(power[2400:].sum() / power.sum()))

    limited = [share_above(1.0, step) for step in range(8)]
    free = [share_above(0.0, step) for step in range(8)]
    assert 0 < limited.count(None) < 8
    for with_limit, without in zip(limited, free, strict=True):
        if with_limit is not None and without is not None:
            assert with_limit < -40.0
            assert without == pytest.approx(10 * math.log10(0.4), abs=0.5)


def test_tracks_too_short_are_left_out(make_data: MakeData) -> None:
    data = make_data(lambda track, stem: noise(track, stem, frames=RATE + track))
    dataset = StemDataset(data, split="train", excerpt_seconds=(RATE + 1) / RATE)
    assert [track.name for track in dataset.tracks] == ["track1"]
    with pytest.raises(DatasetError) as raised:
        StemDataset(data, split="train", excerpt_seconds=1.5)
    assert str(raised.value) == (
        f"data set {data}: expected tracks of at least 1.5 s in split 'train', found 2 tracks, "
        "none of them long enough"
    )


def test_missing_split(make_data: MakeData) -> None:
    data = make_data(noise)
    with pytest.raises(DatasetError) as raised:
        StemDataset(data, split="test", excerpt_seconds=1.0)
    assert str(raised.value) == (
        f"data set {data}: expected tracks in split 'test', found none (2 in 'train', 1 in "
        f"'valid'): put some into SOURCE/test/ and run `sfisep prepare-data SOURCE --out {data}`"
    )


def test_stem_shorter_than_the_manifest_says(make_data: MakeData) -> None:
    data = make_data(noise)
    dataset = StemDataset(data, split="train", excerpt_seconds=4.0)
    for track in range(2):
        path = data / f"train/track{track}/drums.wav"
        soundfile.write(path, noise(0, 0, frames=100 + track), RATE)
    message = r"drums\.wav: expected 40000 frames as manifest\.json says, found 10[01]:"
    with pytest.raises(DatasetError, match=message):
        draw_batch(
            dataset, STEMS, replace(PLAIN, excerpt_seconds=4.0), seed=0, step=0, batch_size=2
        )


@pytest.mark.parametrize("gain", [-0.1, math.nan, math.inf])
def test_impossible_gain_is_refused(gain: float) -> None:
    with pytest.raises(ConfigError) as raised:
        MixingConfig(gain_db=gain)
    assert str(raised.value) == (
        f"training setting mixing.gain_db: expected 0 dB or more, got {gain}"
    )


def test_one_rate_is_needed(make_data: MakeData, tmp_path: Path) -> None:
    data = make_data(noise)
    folder = tmp_path / "more/train/fast"
    folder.mkdir(parents=True)
    for stem in STEMS:
        soundfile.write(folder / f"{stem}.wav", noise(0, 0), 2 * RATE)
    prepare_dataset(tmp_path / "more", data)
    with pytest.raises(DatasetError, match=r"one rate, found \[8000, 16000\] Hz: .* with --sr$"):
        StemDataset(data, split="train", excerpt_seconds=1.0)
