from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf
from scipy import signal

from sfisep_core.data import demo_instruments as sounds
from sfisep_core.data import demo_players
from sfisep_core.data.demo_corpus import STEMS, DemoProgress, generate_demo_corpus, render_track
from sfisep_core.data.manifest import MANIFEST_NAME, read_manifest
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import ConfigError, DatasetError

pytestmark = pytest.mark.slow

RATE = 8000
SECONDS = 30.0
FILES = ["bass.wav", "drums.wav", "mixture.wav", "other.wav", "vocals.wav"]
Track = dict[str, npt.NDArray[np.int16]]


@pytest.fixture(scope="module")
def tracks() -> list[Track]:
    return [
        render_track(seed=0, track=track, seconds=SECONDS, sample_rate=RATE) for track in range(6)
    ]


def make_small(directory: Path, **settings: Any) -> list[Path]:
    small: dict[str, Any] = {"num_train": 1, "num_valid": 1, "num_test": 1}
    small |= {"seconds": 1.0, "sample_rate": 4000}
    return generate_demo_corpus(directory, **(small | settings))


def block_levels(samples: npt.NDArray[np.int16], sample_rate: int) -> npt.NDArray[np.float64]:
    """Return the RMS of each 50 ms in units of full scale."""
    size = round(0.05 * sample_rate)
    count = samples.shape[1] // size
    blocks = samples[:, : count * size].reshape(2, count, size) / 32768.0
    return np.asarray(np.sqrt(np.mean(blocks**2, axis=(0, 2))))


@pytest.mark.parametrize("stride", [1.0, 2.0, 2.76])
def test_tone_is_the_sum_of_its_partials_below_the_nyquist_frequency(stride: float) -> None:
    f0, brightness, frames = 431.0, 2000.0, 1000
    phase = 2.0 * np.pi * f0 * np.arange(frames) / RATE
    allowed = (0.95 * RATE / 2 / f0 - 1.0) / stride + 1.0
    expected = np.zeros(frames)
    for partial in range(int(allowed)):
        amplitude = np.exp(-partial * stride * f0 / brightness)
        if partial == int(allowed) - 1:
            amplitude *= allowed % 1.0
        assert (1.0 + stride * partial) * f0 < RATE / 2
        expected += amplitude * np.sin((1.0 + stride * partial) * phase)
    made = sounds.tone(np.full(frames, f0), brightness, sample_rate=RATE, stride=stride)
    np.testing.assert_allclose(made, expected, atol=1e-9)


def test_tone_above_the_nyquist_frequency_is_silent() -> None:
    glide = np.linspace(3000.0, 5000.0, 4000)
    made = sounds.tone(glide, 2000.0, sample_rate=RATE)
    assert np.all(made[glide > 0.95 * RATE / 2] == 0.0)
    assert np.max(np.abs(np.diff(made[glide > 0.9 * RATE / 2]))) < 2.0


def test_noise_has_the_same_power_per_hz_at_each_rate() -> None:
    powers = []
    for rate in (8000, 48000):
        noise = sounds.band_noise(np.random.default_rng(0), 8.0, 500.0, 1e4, sample_rate=rate)
        frequency, density = signal.welch(noise, rate, nperseg=rate // 20)
        powers.append(np.mean(density[(frequency > 1000.0) & (frequency < 3000.0)]))
    assert powers[0] == pytest.approx(powers[1], rel=0.05)


def test_sung_vowels_have_harmonics_and_formants() -> None:
    singer = sounds.Singer(1.0, 4000.0, 0.0, 5.0, 0.0, 0.05)
    shares = []
    for vowel in (0, 2):  # a, i
        syllable = sounds.Syllable(0.0, 2.0, 57.0, vowel, None)
        rng, noise = np.random.default_rng(0), np.random.default_rng(1)
        voice = sounds.sing(singer, [syllable], rng, noise, sample_rate=RATE)
        assert voice.shape == (2 * RATE,)
        power = np.abs(np.fft.rfft(voice[RATE // 2 :] * np.hanning(len(voice) - RATE // 2))) ** 2
        frequency = np.fft.rfftfreq(len(voice) - RATE // 2, 1.0 / RATE)
        # MIDI 57 is 220 Hz; the pitch drifts by some cents.
        order = np.maximum(np.round(frequency / 220.0), 1.0)
        assert np.sum(power[np.abs(frequency / order - 220.0) < 5.0]) > 0.97 * np.sum(power)
        # The second formant is at 1080 Hz in a and at 1870 Hz in i.
        second_of_a = np.sum(power[(frequency > 900.0) & (frequency < 1300.0)])
        second_of_i = np.sum(power[(frequency > 1650.0) & (frequency < 2100.0)])
        shares.append(second_of_a / second_of_i)
    assert shares[0] > 10.0
    assert shares[1] < 0.3


def test_same_arguments_give_the_same_stems_and_others_do_not() -> None:
    settings: dict[str, Any] = {"seed": 3, "track": 1, "seconds": 1.0, "sample_rate": 4000}
    first, again = render_track(**settings), render_track(**settings)
    assert tuple(first) == STEMS
    for stem in STEMS:
        assert first[stem].dtype == np.int16
        assert first[stem].shape == (2, 4000)
        np.testing.assert_array_equal(first[stem], again[stem])
        for change in ({"seed": 4}, {"track": 2}):
            other = render_track(**(settings | change))
            assert np.any(other[stem] != first[stem])


def test_stems_do_not_depend_on_what_another_stem_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    before = render_track(seed=0, track=0, seconds=4.0, sample_rate=4000)

    def play_a_click(_song: Any, rng: Any, noise: Any, canvas: Any) -> None:
        rng.random(100)
        noise.random(100)
        canvas.add(np.ones(50), 1.0)

    monkeypatch.setitem(demo_players.PLAYERS, "drums", play_a_click)
    after = render_track(seed=0, track=0, seconds=4.0, sample_rate=4000)
    assert np.corrcoef(before["drums"][0], after["drums"][0])[0, 1] < 0.5
    gains = []
    for stem in ("vocals", "bass", "other"):
        old, new = before[stem].astype(np.float64), after[stem].astype(np.float64)
        gain = np.sum(old * new) / np.sum(old * old)
        # Both are rounded: by half a step, and by half a step times the gain.
        assert np.max(np.abs(new - gain * old)) < 0.51 * (1.0 + gain)
        gains.append(gain)
    # One factor for all stems.
    np.testing.assert_allclose(gains, gains[0], rtol=1e-3)


def test_score_does_not_depend_on_the_rate() -> None:
    low = render_track(seed=0, track=0, seconds=6.0, sample_rate=RATE)
    high = render_track(seed=0, track=0, seconds=6.0, sample_rate=2 * RATE)
    for stem, least in {"vocals": 0.85, "bass": 0.98, "other": 0.85}.items():
        halved = signal.resample_poly(high[stem].mean(axis=0), 1, 2)
        # Room and breath are noise, which differs; the notes do not.
        assert np.corrcoef(halved, low[stem].mean(axis=0))[0, 1] > least


def test_stems_rest_and_play(tracks: list[Track]) -> None:
    for track in tracks:
        for stem in STEMS:
            assert np.mean(np.all(track[stem] == 0, axis=0)) >= 0.05
            assert np.mean(block_levels(track[stem], RATE) > 1e-3) >= 0.30


@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0, 2.5])
def test_short_tracks_hold_every_stem_and_its_rest(seconds: float) -> None:
    for track in range(4):
        for samples in render_track(
            seed=1, track=track, seconds=seconds, sample_rate=4000
        ).values():
            silent = np.mean(np.all(samples == 0, axis=0))
            assert 0.05 <= silent <= 0.9


def test_a_track_of_one_sample_is_possible() -> None:
    stems = render_track(seed=0, track=0, seconds=1 / 4000, sample_rate=4000)
    assert [samples.shape for samples in stems.values()] == [(2, 1)] * 4


def test_stems_are_balanced_without_offset_and_leave_headroom(tracks: list[Track]) -> None:
    for track in tracks:
        peak = np.max(np.abs(np.sum(list(track.values()), axis=0, dtype=np.int32)))
        stem_peak = max(np.max(np.abs(samples.astype(np.int32))) for samples in track.values())
        assert 0.59 * 32767 < max(peak, stem_peak) <= 0.95 * 32767
        levels = []
        for samples in track.values():
            blocks = block_levels(samples, RATE)
            active = blocks[blocks > 0.01 * np.max(blocks)]
            levels.append(10.0 * np.log10(np.mean(active**2)))
            assert np.all(np.abs(np.mean(samples, axis=1)) < 0.002 * np.std(samples) + 0.1)
        assert max(levels) - min(levels) < 7.0
        assert min(levels) > -40.0


def test_bass_lies_below_400_hz(tracks: list[Track]) -> None:
    for track in tracks:
        power = np.abs(np.fft.rfft(track["bass"].mean(axis=0))) ** 2
        frequency = np.fft.rfftfreq(track["bass"].shape[1], 1.0 / RATE)
        assert np.sum(power[frequency < 400.0]) > 0.75 * np.sum(power)


def test_vocals_are_voiced_with_f0_between_80_and_600_hz(tracks: list[Track]) -> None:
    size = RATE // 10
    for track in tracks:
        mono = track["vocals"].mean(axis=0)
        frames = mono[: len(mono) // size * size].reshape(-1, size)
        power = np.mean(frames**2, axis=1)
        loud = frames[power > 0.05 * np.max(power)]
        assert len(loud) > 50
        spectrum = np.abs(np.fft.rfft(loud, 2 * size, axis=1)) ** 2
        lags = np.arange(size)
        correlation = np.fft.irfft(spectrum, axis=1)[:, :size] * size / (size - lags)
        periodic = correlation[:, RATE // 600 : RATE // 80] / correlation[:, :1]
        assert np.median(np.max(periodic, axis=1)) > 0.8


def test_tracks_differ(tracks: list[Track]) -> None:
    for stem in STEMS:
        spectra = np.array(
            [signal.welch(track[stem].mean(axis=0), RATE, nperseg=1024)[1] for track in tracks]
        )
        shares = spectra / np.sum(spectra, axis=1, keepdims=True)
        distances = 0.5 * np.sum(np.abs(shares[:, None] - shares[None]), axis=-1)
        assert np.median(distances[np.triu_indices(len(tracks), 1)]) > 0.1


def test_corpus_has_the_layout_and_the_exact_mixture(tmp_path: Path) -> None:
    reports: list[DemoProgress] = []
    folders = make_small(tmp_path, num_train=2, progress=reports.append)
    names = ["train/demo_0000", "train/demo_0001", "valid/demo_0002", "test/demo_0003"]
    assert folders == [tmp_path / name for name in names]
    assert reports == [DemoProgress(f"demo_{index:04d}", index + 1, 4) for index in range(4)]
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == FILES
        total = np.zeros((4000, 2), dtype=np.int64)
        for stem in STEMS:
            info = sf.info(folder / f"{stem}.wav")
            assert (info.samplerate, info.subtype, info.format) == (4000, "PCM_16", "WAV")
            total += sf.read(folder / f"{stem}.wav", dtype="int16")[0]
        np.testing.assert_array_equal(sf.read(folder / "mixture.wav", dtype="int16")[0], total)
    stems = render_track(seed=0, track=3, seconds=1.0, sample_rate=4000)
    written = sf.read(folders[3] / "vocals.wav", dtype="int16")[0]
    np.testing.assert_array_equal(written.T, stems["vocals"])


def test_corpus_is_the_data_set_that_preparing_it_gives(tmp_path: Path) -> None:
    make_small(tmp_path / "demo", num_train=2)
    prepared = prepare_dataset(
        PreparationRequest(source=tmp_path / "demo", out=tmp_path / "prepared")
    )
    assert read_manifest(tmp_path / "demo") == prepared.tracks
    assert [t.split for t in prepared.tracks] == ["train", "train", "valid", "test"]
    assert [t.mixture is not None for t in prepared.tracks] == [False, False, True, True]
    for track in prepared.tracks:
        for file in track.files.values():
            assert (tmp_path / "demo" / file).is_file()


def test_corpus_of_an_earlier_version_gets_its_manifest_and_keeps_its_files(tmp_path: Path) -> None:
    folder = make_small(tmp_path)[0]
    expected = (tmp_path / MANIFEST_NAME).read_bytes()
    (tmp_path / MANIFEST_NAME).unlink()
    before = (folder / "bass.wav").stat()
    with pytest.raises(DatasetError, match=r"expected manifest\.json, found none"):
        read_manifest(tmp_path)
    make_small(tmp_path)
    assert (tmp_path / MANIFEST_NAME).read_bytes() == expected
    after = (folder / "bass.wav").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_complete_corpus_is_not_written_again(tmp_path: Path) -> None:
    make_small(tmp_path)
    before = (tmp_path / MANIFEST_NAME).stat()
    make_small(tmp_path)
    after = (tmp_path / MANIFEST_NAME).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_track_that_is_made_again_is_described_again(tmp_path: Path) -> None:
    folder = make_small(tmp_path)[2]
    expected = (tmp_path / MANIFEST_NAME).read_text()
    entry = read_manifest(tmp_path)[2]
    wrong = expected.replace(entry.sha256["mixture"], "0" * 64)
    assert wrong != expected
    (tmp_path / MANIFEST_NAME).write_text(wrong)
    (folder / "mixture.wav").write_bytes(b"damaged")
    make_small(tmp_path)
    assert (tmp_path / MANIFEST_NAME).read_text() == expected


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for first, second in zip(make_small(tmp_path / "a"), make_small(tmp_path / "b"), strict=True):
        for name in FILES:
            assert (first / name).read_bytes() == (second / name).read_bytes()


def test_complete_tracks_are_left_as_they_are(tmp_path: Path) -> None:
    folder = make_small(tmp_path)[0]
    original = (folder / "bass.wav").read_bytes()
    sf.write(folder / "bass.wav", np.zeros((4000, 2)), 4000, subtype="PCM_16")
    replaced = (folder / "bass.wav").read_bytes()
    assert replaced != original
    reports: list[DemoProgress] = []
    make_small(tmp_path, progress=reports.append)
    assert [report.done for report in reports] == [1, 2, 3]
    assert (folder / "bass.wav").read_bytes() == replaced


@pytest.mark.parametrize("damage", ["missing", "short", "mono", "not audio"])
def test_incomplete_tracks_are_made_again(tmp_path: Path, damage: str) -> None:
    folder = make_small(tmp_path, num_valid=0, num_test=0)[0]
    path = folder / "drums.wav"
    original = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "short":
        sf.write(path, np.zeros((3999, 2)), 4000, subtype="PCM_16")
    elif damage == "mono":
        sf.write(path, np.zeros((4000, 1)), 4000, subtype="PCM_16")
    else:
        path.write_bytes(b"no audio")
    make_small(tmp_path, num_valid=0, num_test=0)
    assert path.read_bytes() == original


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"seed": 1}, "seed is 1, demo.json says 0"),
        ({"seconds": 1.5}, "seconds is 1.5, demo.json says 1.0"),
        ({"sample_rate": 5000}, "sample_rate is 5000, demo.json says 4000"),
        ({"num_train": 2}, "num_train is 2, demo.json says 1"),
    ],
)
def test_other_settings_need_another_directory(
    tmp_path: Path, settings: dict[str, Any], difference: str
) -> None:
    make_small(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(DatasetError) as raised:
        make_small(tmp_path, **settings)
    assert str(raised.value) == (
        f"Cannot write the demo corpus to {tmp_path}: it holds one of other settings "
        f"({difference}). Choose another directory, or the same settings."
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_unknown_settings_need_another_directory(tmp_path: Path, content: str) -> None:
    (tmp_path / "demo.json").write_text(content)
    with pytest.raises(DatasetError, match=r"seed is 0, demo\.json says nothing; seconds is 1\.0,"):
        make_small(tmp_path)


def test_a_directory_whose_name_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"Cannot write the demo corpus to .*: File name too"):
        make_small(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seconds": 0.0}, "above 0 .* got 0.0"),
        ({"seconds": -1.0}, "above 0 .* got -1.0"),
        ({"seconds": float("nan")}, "got nan"),
        ({"seconds": float("inf")}, "got inf"),
        ({"sample_rate": 3999}, "between 4000 and 192000 Hz, got 3999"),
        ({"sample_rate": 192001}, "between 4000 and 192000 Hz, got 192001"),
        ({"seed": -1}, "seed .* got -1"),
        ({"num_valid": -1}, "num_valid .* got -1"),
        ({"num_train": 0, "num_valid": 0, "num_test": 0}, "no track"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_small(tmp_path / "corpus", **settings)
    assert not (tmp_path / "corpus").exists()


def test_a_negative_track_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="got -1"):
        render_track(seed=0, track=-1, seconds=1.0, sample_rate=4000)


@pytest.mark.parametrize("blocked", ["corpus", "corpus/train"])
def test_a_file_in_the_place_of_a_directory_is_refused(tmp_path: Path, blocked: str) -> None:
    path = tmp_path / blocked
    path.parent.mkdir(exist_ok=True)
    path.write_text("in the way")
    with pytest.raises(DatasetError, match=r"Cannot write .*demo"):
        make_small(tmp_path / "corpus")
    assert path.read_text() == "in the way"
