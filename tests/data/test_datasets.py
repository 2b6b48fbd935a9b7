import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from sfisep_core.audio.files import read_audio
from sfisep_core.audio.resample import resample
from sfisep_core.data.datasets import Place, StemDataset
from sfisep_core.data.layouts import STEMS
from sfisep_core.errors import AudioFileError, DatasetError

RATE = 8000
SECONDS = 5

Samples = npt.NDArray[np.float64]
MakeData = Callable[..., Path]


def noise(track: int, stem: int, *, frames: int = SECONDS * RATE) -> Samples:
    """Give stereo noise that differs between tracks, stems and channels."""
    rng = np.random.default_rng([track, stem])
    return np.asarray(rng.integers(-8000, 8000, (frames, 2)) / 32768)


class Grid:
    """Stand for random numbers: the same share of every range, chosen by the test."""

    def __init__(self, share: float, first: float) -> None:
        self.share, self.first = share, first

    def random(self) -> float:
        return self.first

    def integers(self, low: int, high: int | None = None) -> int:
        begin, end = (0, low) if high is None else (low, high)
        return begin + int(self.share * (end - begin))


def grid(share: float, *, first: float = 0.0) -> Any:
    return Grid(share, first)


def test_excerpts_are_the_very_samples(make_data: MakeData) -> None:
    data = make_data(noise)
    dataset = StemDataset(data, split="train", excerpt_seconds=1.0)
    assert dataset.sample_rate == RATE
    assert [track.name for track in dataset.tracks] == ["track0", "track1"]
    for track, start, frames in ((0, 0, 100), (1, 12345, 8000), (1, 39999, 1)):
        for number, stem in enumerate(STEMS):
            excerpt = dataset.read(Place(track, start), stem, frames=frames)
            assert excerpt.dtype == np.float32
            expected = noise(track, number)[start : start + frames].T
            np.testing.assert_array_equal(excerpt, expected)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "expected an ordinary file, got a folder, a device or a named pipe"),
        (os.mkdir, "expected an ordinary file, got a folder, a device or a named pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "got a link to /dev/zero, out of it"),
        (lambda path: path.symlink_to(path.parents[3] / "x.wav"), "got a link to .*, out of it"),
    ],
)
def test_stems_that_are_no_files_of_the_data_set_are_refused(
    make: Callable[[Path], None], message: str, make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data(noise)
    dataset = StemDataset(data, split="train", excerpt_seconds=1.0)
    bass = data / dataset.tracks[0].stems["bass"]
    bass.rename(tmp_path / "x.wav")
    make(bass)
    for read in (
        lambda: dataset.read(Place(0, 0), "bass", frames=100),
        lambda: dataset.read_whole(dataset.tracks[0], "bass"),
    ):
        with pytest.raises(DatasetError, match=message):
            read()


def test_links_inside_the_data_set_and_to_it_are_followed(
    make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data(noise)
    (tmp_path / "link").symlink_to(data)
    (data / "train/track0").rename(data / "moved")
    (data / "train/track0").symlink_to("../moved")
    dataset = StemDataset(tmp_path / "link", split="train", excerpt_seconds=1.0)
    excerpt = dataset.read(Place(0, 0), "bass", frames=100)
    np.testing.assert_array_equal(excerpt, noise(0, STEMS.index("bass"))[:100].T)


def test_folder_of_a_split_that_leads_elsewhere_is_refused(
    make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data(noise)
    (data / "train").rename(tmp_path / "elsewhere")
    (data / "train").symlink_to(tmp_path / "elsewhere")
    dataset = StemDataset(data, split="train", excerpt_seconds=1.0)
    with pytest.raises(DatasetError, match="train: expected a file of the data set, got a link"):
        dataset.read(Place(0, 0), "bass", frames=100)


def test_nothing_but_the_excerpt_is_decoded(
    make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = StemDataset(make_data(noise), split="train", excerpt_seconds=1.0)
    reads, read = [], soundfile.SoundFile.read

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        position, result = self.tell(), read(self, *args, **kwargs)
        reads.append((position, len(result)))
        return result

    monkeypatch.setattr(soundfile.SoundFile, "read", spy)
    dataset.read(Place(0, 30000), "bass", frames=500)
    assert reads == [(30000, 500)]


def test_excerpt_longer_than_the_track_ends_in_silence(make_data: MakeData) -> None:
    dataset = StemDataset(make_data(noise), split="train", excerpt_seconds=SECONDS)
    frames = SECONDS * RATE
    place = dataset.draw_place(np.random.default_rng(0), frames=frames + 7)
    assert place.start == 0
    excerpt = dataset.read(place, "drums", frames=frames + 7)
    np.testing.assert_array_equal(excerpt[:, :frames], noise(place.track, 1).T)
    np.testing.assert_array_equal(excerpt[:, frames:], np.zeros((2, 7)))


def test_whole_tracks_of_any_length_and_rate(make_data: MakeData) -> None:
    data = make_data(
        lambda track, stem: noise(track, stem, frames=10 + track), rates=(RATE, 2 * RATE)
    )
    dataset = StemDataset(data, split="train", excerpt_seconds=None)
    assert [track.sample_rate for track in dataset.tracks] == [RATE, 2 * RATE]
    for number, track in enumerate(dataset.tracks):
        whole = dataset.read_whole(track, "other")
        np.testing.assert_array_equal(whole, noise(number, 3, frames=10 + number).T)


@pytest.mark.parametrize("rates", [(8000, 16000), (16000, 11025)])
def test_excerpts_of_slower_tracks_are_resampled(
    rates: tuple[int, int], make_data: MakeData, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data(noise, rates=rates)
    with caplog.at_level(logging.WARNING):
        dataset = StemDataset(data, split="train", excerpt_seconds=1.0)
    (line,) = caplog.messages
    slow, fast = sorted(rates)
    assert line == (
        f"data set {data}: split 'train' has tracks at {slow} (1), {fast} (1) Hz; what is read of "
        f"them is resampled to {fast} Hz; prepare the data with --sr to do so once"
    )
    assert dataset.sample_rate == 16000
    for track, rate in enumerate(rates):
        excerpt = dataset.read(Place(track, 1000), "bass", frames=6001)
        own = noise(track, 2)[1000 : 1000 + -(-6001 * rate // 16000)].T.astype(np.float32)
        expected = resample(own, orig_rate=rate, target_rate=16000, length=6001)
        np.testing.assert_array_equal(excerpt, expected)
        assert excerpt[:, -1].all()  # it was long enough


def test_resampled_tone_keeps_its_frequency(make_data: MakeData) -> None:
    def tone(track: int, _stem: int) -> Samples:
        rate = (8000, 16000)[track]
        return np.asarray(0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate))

    data = make_data(tone, rates=(8000, 16000))
    dataset = StemDataset(data, split="train", excerpt_seconds=1.0)
    # Half a second into either track, in samples of its own.
    slow, fast = (
        dataset.read(Place(t, n), "bass", frames=8000)[0] for t, n in ((0, 4000), (1, 8000))
    )
    np.testing.assert_allclose(slow[500:-500], fast[500:-500], atol=2e-4)


def test_every_start_is_equally_likely(make_data: MakeData) -> None:
    # 40000 and 20000 samples, of which 32001 and 12001 can be starts.
    data = make_data(lambda track, stem: noise(track, stem, frames=40000 - 20000 * track))
    dataset = StemDataset(data, split="train", excerpt_seconds=1.0)
    starts = (32001, 12001)
    tracks = Counter(
        dataset.draw_place(grid(0.0, first=share), frames=RATE).track
        for share in np.arange(1000) / 1000
    )
    assert tracks[0] == int(np.ceil(1000 * starts[0] / sum(starts)))
    for track, first in ((0, 0.0), (1, 0.9)):
        for share in (0.0, 0.25, 0.5, 1 - 1e-9):
            place = dataset.draw_place(grid(share, first=first), frames=RATE)
            assert place == Place(track, int(share * starts[track]))


def test_tracks_are_weighed_by_time_not_by_samples(make_data: MakeData) -> None:
    data = make_data(
        lambda track, stem: noise(track, stem, frames=(3 * 8000, 3 * 16000)[track]),
        rates=(8000, 16000),
    )
    dataset = StemDataset(data, split="train", excerpt_seconds=1.0)
    tracks = [
        dataset.draw_place(grid(0.0, first=share), frames=16000).track
        for share in np.arange(1000) / 1000
    ]
    # 2 s and a sample each: 16001 / 8000 and 32001 / 16000.
    assert tracks.count(0) == 501
    assert tracks == sorted(tracks)


def one_active_second(track: int, stem: int) -> Samples:
    """Give a stem that plays in one second of one of the tracks only."""
    signal = np.zeros(SECONDS * RATE)
    if track == stem % 2:
        signal[(1 + stem) * RATE : (2 + stem) * RATE] = 0.25
    return signal


@pytest.mark.parametrize("frames", [RATE, RATE + 1, 3 * RATE // 2, 5 * RATE - 1, RATE // 4])
def test_active_draws_contain_the_active_second(frames: int, make_data: MakeData) -> None:
    dataset = StemDataset(make_data(one_active_second), split="train", excerpt_seconds=0.25)
    for number, stem in enumerate(STEMS):
        begin, end = (1 + number) * RATE, (2 + number) * RATE
        found = []
        for share in (*np.arange(0, 1, 1 / 64), 1 - 1e-9):
            place = dataset.draw_place(grid(share), frames=frames, stem=stem)
            assert place.track == number % 2
            # The whole active second, or as much of it as the excerpt can hold.
            assert min(place.start + frames, end) - max(place.start, begin) == min(frames, RATE)
            found.append(place.start)
        # At any place that the track allows.
        assert min(found) == max(begin - max(frames - RATE, 0), 0)
        assert max(found) == min(begin + max(RATE - frames, 0), SECONDS * RATE - frames)


def test_without_active_seconds_starts_are_anywhere(make_data: MakeData) -> None:
    data = make_data(lambda *_: np.zeros(SECONDS * RATE))
    dataset = StemDataset(data, split="train", excerpt_seconds=1.0)
    place = dataset.draw_place(grid(0.5, first=0.75), frames=RATE, stem="vocals")
    assert place == Place(1, int(0.5 * 32001))


def test_shifts_reach_every_start_in_their_range_once(make_data: MakeData) -> None:
    dataset = StemDataset(make_data(noise), split="train", excerpt_seconds=1.0)

    def shifted(start: int) -> list[int]:
        """Shift by every number of 0 to 4 samples either way."""
        count = 9 - max(0, 4 - start) - max(0, start + 4 - 32000)
        draws = (np.arange(count) + 0.5) / count
        places = [
            dataset.shift_place(Place(1, start), frames=RATE, seconds=4 / RATE, draw=float(draw))
            for draw in draws
        ]
        assert {place.track for place in places} == {1}
        return [place.start for place in places]

    assert shifted(1000) == list(range(996, 1005))
    assert shifted(1) == list(range(6))  # none before the track
    assert shifted(31999) == list(range(31995, 32001))  # nor after it
    assert dataset.shift_place(Place(0, 7), frames=RATE, seconds=0.0, draw=0.9) == Place(0, 7)


def test_tracks_too_short_are_left_out(
    make_data: MakeData, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data(lambda track, stem: noise(track, stem, frames=RATE + track))
    dataset = StemDataset(data, split="train", excerpt_seconds=(RATE + 1) / RATE)
    assert [track.name for track in dataset.tracks] == ["track1"]
    (message,) = caplog.messages
    assert "shorter than an excerpt of" in message
    assert message.endswith("which are left out: track0")
    with pytest.raises(DatasetError) as raised:
        StemDataset(data, split="train", excerpt_seconds=1.5)
    assert str(raised.value) == (
        f"data set {data}: expected tracks of at least 1.5 s in split 'train', found none that "
        "long among 2 tracks: prepare longer ones, or ask for shorter excerpts"
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
    path = data / "train/track1/drums.wav"
    soundfile.write(path, noise(0, 0, frames=100), RATE)
    message = (
        f"{path}: expected 40000 frames as manifest.json says, found 100: prepare the data again"
    )
    with pytest.raises(DatasetError) as raised:
        dataset.read(Place(1, 8000), "drums", frames=32000)
    assert str(raised.value) == message
    with pytest.raises(DatasetError) as raised:
        dataset.read_whole(dataset.tracks[1], "drums")
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "found no such file; check the path"),
        (b"", r"found an empty file \(0 bytes\)"),
        (b"RIFFnonsense", "expected audio, found data that begin with"),
    ],
)
def test_unreadable_files_are_explained(
    content: bytes | None, found: str, make_data: MakeData
) -> None:
    dataset = StemDataset(make_data(noise), split="train", excerpt_seconds=1.0)
    path = dataset.folder / "train/track0/bass.wav"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioFileError, match=rf"bass\.wav'.*{found}"):
        dataset.read(Place(0, 100), "bass", frames=200)


def test_values_that_are_no_numbers_are_explained(make_data: MakeData) -> None:
    dataset = StemDataset(make_data(noise), split="train", excerpt_seconds=1.0)
    path = dataset.folder / "train/track0/bass.wav"
    samples = read_audio(path)[0].T
    samples[1000, 1] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"found nan at 0\.125 s in channel 2 of 2"):
        dataset.read(Place(0, 900), "bass", frames=200)
    expected = samples[1001:1201].T  # what is not read cannot be wrong
    np.testing.assert_array_equal(dataset.read(Place(0, 1001), "bass", frames=200), expected)
