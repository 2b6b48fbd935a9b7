"""Preparing into a folder that is being, or was half, written."""

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sfisep_core.data import prepare as module
from sfisep_core.data.layouts import STEMS, TrackFolder, hold_out_tracks
from sfisep_core.data.manifest import PreparedTrack, read_manifest, update_manifest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import ConfigError

RATE = 8000


def write_track(folder: Path, *, seed: int = 0, level: float = 0.2) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for stem in STEMS:
        samples = rng.uniform(-level, level, (RATE // 2, 1))
        soundfile.write(folder / f"{stem}.wav", samples, RATE, subtype="FLOAT")


def names(tracks: Sequence[PreparedTrack]) -> list[str]:
    return sorted(f"{track.split}/{track.name}" for track in tracks)


def rates(folder: Path) -> list[int]:
    return [soundfile.info(folder / f"{stem}.wav").samplerate for stem in STEMS]


def test_interrupted_preparation_at_another_rate_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_track(source / "song")
    prepare_dataset(source, out, sample_rate=16000)

    write, written = module.write_audio, []

    def write_two(path: Path, *arguments: Any, **settings: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *arguments, **settings)

    monkeypatch.setattr(module, "write_audio", write_two)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(source, out, sample_rate=8000)
    assert rates(out / "train/song") == [8000, 8000, 16000, 16000]
    assert read_manifest(out) == []

    monkeypatch.setattr(module, "write_audio", write)
    (track,) = prepare_dataset(source, out, sample_rate=16000).tracks
    assert (track.sample_rate, track.frames) == (16000, 8000)
    assert rates(out / "train/song") == [16000] * 4


@pytest.mark.parametrize(("frames", "rate"), [(RATE // 2, 16000), (RATE // 2 - 1, RATE)])
def test_stems_that_differ_from_the_manifest_are_made_again(
    frames: int, rate: int, tmp_path: Path
) -> None:
    write_track(tmp_path / "in/song")
    prepare_dataset(tmp_path / "in", tmp_path / "out")
    bass = tmp_path / "out/train/song/bass.wav"
    original = bass.read_bytes()
    soundfile.write(bass, np.zeros(frames), rate, subtype="PCM_16")
    prepare_dataset(tmp_path / "in", tmp_path / "out")
    assert bass.read_bytes() == original


def test_runs_into_one_folder_at_the_same_time_keep_each_others_tracks(tmp_path: Path) -> None:
    for number, track in enumerate(("one/train/a", "one/train/b", "two/train/c", "two/test/d")):
        write_track(tmp_path / track, seed=number)
    write_track(tmp_path / "one/valid/v", seed=8)
    out = tmp_path / "out"
    others: list[PreparedTrack] = []

    def run_the_other(_: object) -> None:
        if not others:
            others.extend(prepare_dataset(tmp_path / "two", out).tracks)

    result = prepare_dataset(tmp_path / "one", out, progress=run_the_other)
    expected = ["test/d", "train/a", "train/b", "train/c", "valid/v"]
    assert names(result.tracks) == expected
    assert names(read_manifest(out)) == expected


def test_manifest_updates_from_several_threads_are_all_kept(tmp_path: Path) -> None:
    def add(worker: int) -> None:
        for number in range(10):
            track = PreparedTrack(f"{worker}.{number}", "train", RATE, 1, 1, {}, {})
            update_manifest(tmp_path, add=[track])

    threads = [threading.Thread(target=add, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_manifest(tmp_path)) == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == [".manifest.lock", "manifest.json"]


@pytest.mark.parametrize("rate", [0, 100, 3999, 384001, 1000000])
def test_rate_that_cannot_be_read_is_refused_before_any_work(rate: int, tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    with pytest.raises(ConfigError, match=f"of 4000 to 384000 Hz, got {rate} Hz"):
        prepare_dataset(tmp_path / "in", tmp_path / "out", sample_rate=rate)
    assert not (tmp_path / "out").exists()


def folders(*paths: str) -> list[TrackFolder]:
    """Give complete track folders; a name that ends in ! lacks its stems."""
    found = []
    for path in paths:
        split, name = path.split("/")
        stems = {} if name.endswith("!") else {stem: Path(path) for stem in STEMS}
        found.append(TrackFolder(name, split, stems))
    return found


# SHA-256 modulo 100: a 99, b 65, c 58, take6 9, take19 1.
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["train/a"], ["train/a"]),
        (["train/a", "train/b", "train/c"], ["train/a", "train/b", "valid/c"]),
        (["train/a", "train/b", "test/c"], ["train/a", "valid/b", "test/c"]),
        (["train/a", "train/b", "valid/c"], ["train/a", "train/b", "valid/c"]),
        (["train/a", "train/take6", "train/take19"], ["train/a", "valid/take6", "valid/take19"]),
        (["train/take6", "train/take19"], ["train/take6", "valid/take19"]),
        (["train/take6"], ["train/take6"]),
        (["test/a", "test/b"], ["test/a", "test/b"]),
        (["train/a", "train/b!"], ["train/a", "train/b!"]),
    ],
)
def test_tracks_held_out(given: list[str], expected: list[str]) -> None:
    assert [f"{f.split}/{f.name}" for f in hold_out_tracks(folders(*given))] == expected


def test_held_out_tracks_are_not_trained_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_track(source / "a")
    assert names(prepare_dataset(source, out).tracks) == ["train/a"]
    write_track(source / "b", seed=1)
    assert names(prepare_dataset(source, out).tracks) == ["train/a", "valid/b"]
    write_track(source / "c", seed=2)
    assert names(prepare_dataset(source, out).tracks) == ["train/a", "train/b", "valid/c"]
    # The user's own choice.
    (source / "train").mkdir()
    (source / "valid").mkdir()
    for name, split in (("a", "valid"), ("b", "train"), ("c", "train")):
        (source / name).rename(source / split / name)
    result = prepare_dataset(source, out)
    assert names(result.tracks) == ["train/b", "train/c", "valid/a"]
    assert result.skipped == []


def test_track_whose_name_is_not_utf8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/caf\xe9"))
    try:
        write_track_by_descriptor(folder)
    except OSError as error:  # APFS takes UTF-8 only
        pytest.skip(f"no such names here: {error}")
    result = prepare_dataset(tmp_path / "in", tmp_path / "out")
    assert result.skipped == []
    (track,) = result.tracks
    assert os.fsencode(track.name) == b"caf\xe9"
    assert read_manifest(tmp_path / "out") == [track]
    assert (tmp_path / "out" / track.stems["vocals"]).is_file()
    assert prepare_dataset(tmp_path / "in", tmp_path / "out") == result


def write_track_by_descriptor(folder: Path) -> None:
    folder.mkdir(parents=True)
    for stem in STEMS:
        with (folder / f"{stem}.wav").open("wb") as file:
            soundfile.write(file, np.zeros(RATE), RATE, format="WAV")


def test_clipping_is_told_once_for_each_track(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_track(tmp_path / "in/quiet")
    write_track(tmp_path / "in/song", seed=1)
    for stem, peak in (("drums", 1.5), ("bass", -1.25), ("other", 1.0)):
        samples = np.zeros(RATE)
        samples[[100, 200]] = 0.5 * peak, peak
        soundfile.write(tmp_path / f"in/song/{stem}.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "in/song/vocals.wav", np.zeros(RATE), RATE)
    with caplog.at_level(logging.WARNING):
        assert prepare_dataset(tmp_path / "in", tmp_path / "out").skipped == []
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "track song exceeds full scale (1.0) and is clipped there: drums (peak 1.500), bass (peak "
        "1.250); "
    )
