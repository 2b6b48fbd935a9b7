"""Preparing into a folder that is being, or was half, written."""

import hashlib
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sfisep_core.data import sources
from sfisep_core.data import track_preparation as module
from sfisep_core.data.layouts import STEMS
from sfisep_core.data.manifest import (
    PreparedTrack,
    finish_manifest,
    read_manifest,
    update_manifest,
)
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import ConfigError, DatasetError

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
    prepare_dataset(PreparationRequest(source=source, out=out, sample_rate=16000))

    write, written = module.write_audio, []

    def write_two(path: Path, *arguments: Any, **settings: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *arguments, **settings)

    monkeypatch.setattr(module, "write_audio", write_two)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(PreparationRequest(source=source, out=out, sample_rate=8000))
    assert rates(out / "train/song") == [8000, 8000, 16000, 16000]
    assert read_manifest(out) == []

    monkeypatch.setattr(module, "write_audio", write)
    (track,) = prepare_dataset(PreparationRequest(source=source, out=out, sample_rate=16000)).tracks
    assert (track.sample_rate, track.frames) == (16000, 8000)
    assert rates(out / "train/song") == [16000] * 4


@pytest.mark.parametrize(("frames", "rate"), [(RATE // 2, 16000), (RATE // 2 - 1, RATE)])
def test_stems_that_differ_from_the_manifest_are_made_again(
    frames: int, rate: int, tmp_path: Path
) -> None:
    write_track(tmp_path / "in/song")
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    bass = tmp_path / "out/train/song/bass.wav"
    original = bass.read_bytes()
    soundfile.write(bass, np.zeros(frames), rate, subtype="PCM_16")
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert bass.read_bytes() == original


def test_runs_into_one_folder_at_the_same_time_keep_each_others_tracks(tmp_path: Path) -> None:
    for number, track in enumerate(("one/train/a", "one/train/b", "two/train/c", "two/test/d")):
        write_track(tmp_path / track, seed=number)
    write_track(tmp_path / "one/valid/v", seed=8)
    out = tmp_path / "out"
    others: list[PreparedTrack] = []

    def run_the_other(_: object) -> None:
        if not others:
            others.extend(
                prepare_dataset(PreparationRequest(source=tmp_path / "two", out=out)).tracks
            )

    result = prepare_dataset(
        PreparationRequest(source=tmp_path / "one", out=out), progress=run_the_other
    )
    expected = ["test/d", "train/a", "train/b", "train/c", "valid/v"]
    assert names(result.tracks) == expected
    assert names(read_manifest(out)) == expected


def test_manifest_updates_from_several_threads_are_all_kept(tmp_path: Path) -> None:
    def add(worker: int) -> None:
        for number in range(10):
            name = f"{worker}.{number}"
            track = PreparedTrack(
                name, "train", RATE, 1, 1, {"s1": f"train/{name}.wav"}, {"s1": []}
            )
            update_manifest(tmp_path, add=[track])

    threads = [threading.Thread(target=add, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_manifest(tmp_path)) == 40
    files = [".manifest.jsonl", ".manifest.lock"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    finish_manifest(tmp_path)
    assert len(read_manifest(tmp_path)) == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == [".manifest.lock", "manifest.json"]


@pytest.mark.parametrize("rate", [0, 100, 3999, 384001, 1000000])
def test_rate_that_cannot_be_read_is_refused_before_any_work(rate: int, tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    with pytest.raises(ConfigError, match=f"of 4000 to 384000 Hz, got {rate} Hz"):
        prepare_dataset(
            PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", sample_rate=rate)
        )
    assert not (tmp_path / "out").exists()


def test_held_out_tracks_are_not_trained_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_track(source / "a")
    assert names(prepare_dataset(PreparationRequest(source=source, out=out)).tracks) == ["train/a"]
    write_track(source / "b", seed=1)
    assert names(prepare_dataset(PreparationRequest(source=source, out=out)).tracks) == [
        "train/a",
        "valid/b",
    ]
    write_track(source / "c", seed=2)
    assert names(prepare_dataset(PreparationRequest(source=source, out=out)).tracks) == [
        "train/a",
        "train/b",
        "valid/c",
    ]
    # The user's own choice.
    (source / "train").mkdir()
    (source / "valid").mkdir()
    for name, split in (("a", "valid"), ("b", "train"), ("c", "train")):
        (source / name).rename(source / split / name)
    result = prepare_dataset(PreparationRequest(source=source, out=out))
    assert names(result.tracks) == ["train/b", "train/c", "valid/a"]
    assert result.skipped == []


def test_track_whose_name_is_not_utf8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/caf\xe9"))
    try:
        write_track_by_descriptor(folder)
    except OSError as error:  # APFS takes UTF-8 only
        pytest.skip(f"no such names here: {error}")
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert result.skipped == []
    (track,) = result.tracks
    assert os.fsencode(track.name) == b"caf\xe9"
    assert read_manifest(tmp_path / "out") == [track]
    assert (tmp_path / "out" / track.stems["vocals"]).is_file()
    assert prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ) == replace(result, written=0)


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
        assert (
            prepare_dataset(
                PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
            ).skipped
            == []
        )
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "track song exceeds full scale (1.0) and is clipped there: drums (peak 1.500), bass (peak "
        "1.250); prepare it with --encoding float32 if that matters"
    )


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Describe every file, so that one that was written again is noticed."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def refuse(*_: object) -> None:
    pytest.fail("a source file was read again")


def test_second_call_reads_no_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("train/a", "valid/b")):
        write_track(tmp_path / "in" / name, seed=number)
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    before = snapshot(tmp_path / "out")
    monkeypatch.setattr(sources, "file_sha256", refuse)
    monkeypatch.setattr(sources, "read_info", refuse)
    monkeypatch.setattr(module, "read_track", refuse)
    again = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert (result.written, again.written, again.tracks) == (2, 0, result.tracks)
    assert snapshot(tmp_path / "out") == before


def test_edited_source_is_prepared_anew(tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    write_track(tmp_path / "in/tune", seed=1)
    first = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    bass = tmp_path / "in/song/bass.wav"
    samples, _ = soundfile.read(bass)
    samples[-1] = 0.125
    soundfile.write(bass, samples, RATE, subtype="FLOAT")  # of the same size
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert (result.written, result.skipped) == (1, [])
    before, after = (
        next(track for track in tracks if track.name == "song")
        for tracks in (first.tracks, result.tracks)
    )
    assert before.origin != after.origin
    changed = [stem for stem in STEMS if before.sha256[stem] != after.sha256[stem]]
    assert changed == ["bass"]
    assert soundfile.read(tmp_path / "out" / after.stems["bass"])[0][-1] == 0.125
    assert len(result.tracks) == 2


def test_edited_source_that_is_held_out_now_is_no_longer_trained_on(tmp_path: Path) -> None:
    write_track(tmp_path / "in/b")
    assert names(
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")).tracks
    ) == ["train/b"]
    write_track(tmp_path / "in/a", seed=1)
    soundfile.write(tmp_path / "in/b/bass.wav", np.zeros((RATE // 2, 1)), RATE, subtype="FLOAT")
    tracks = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ).tracks
    assert names(tracks) == ["train/a", "valid/b"]
    assert not (tmp_path / "out/train/b").exists()


def test_touched_source_is_not_prepared_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_track(tmp_path / "in/song")
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    before = snapshot(tmp_path / "out/train")
    manifest = (tmp_path / "out/manifest.json").read_bytes()
    os.utime(tmp_path / "in/song/bass.wav", (0, 0))
    assert (
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")).written
        == 0
    )
    monkeypatch.setattr(sources, "file_sha256", refuse)  # the next time it is known again
    assert (
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")).written
        == 0
    )
    assert snapshot(tmp_path / "out/train") == before
    assert (tmp_path / "out/manifest.json").read_bytes() == manifest


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"x": {"origin": 1}}'])
def test_what_is_known_of_sources_only_saves_work(content: bytes | None, tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    before = snapshot(tmp_path / "out/train")
    known = (tmp_path / "out/.sources.json").read_bytes()
    (tmp_path / "out/.sources.json").unlink()
    if content is not None:
        (tmp_path / "out/.sources.json").write_bytes(content)
    assert (
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")).written
        == 0
    )
    assert snapshot(tmp_path / "out/train") == before
    assert (tmp_path / "out/.sources.json").read_bytes() == known


def test_verify_repairs_files_of_the_right_size(tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    write_track(tmp_path / "in/tune", seed=1)
    (track, _) = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ).tracks
    path = tmp_path / "out" / track.stems["drums"]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert (
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")).written
        == 0
    )
    assert path.read_bytes() != content
    assert (
        prepare_dataset(
            PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", verify=True)
        ).written
        == 1
    )
    assert path.read_bytes() == content
    assert (
        prepare_dataset(
            PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", verify=True)
        ).written
        == 0
    )


def test_files_that_are_no_longer_named_are_removed_and_no_others(tmp_path: Path) -> None:
    write_track(tmp_path / "in/train/song")
    write_track(tmp_path / "in/valid/v", seed=1)
    out = tmp_path / "out"
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=out, exclude=["song:0.1-0.2"]))
    notes = out / "train/song.1/notes.txt"
    notes.write_text("mine")
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=out, container="flac"))
    found = sorted(path.relative_to(out).as_posix() for path in out.glob("*/*/*"))
    assert found == sorted(
        ["train/song.1/notes.txt"]
        + [f"{track}/{stem}.flac" for track in ("train/song", "valid/v") for stem in STEMS]
    )
    assert not (out / "train/song.2").exists()


def test_manifest_does_not_make_us_remove_files_elsewhere(tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    out = tmp_path / "out"
    (track,) = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=out)).tracks
    for number, name in enumerate(("../precious.wav", str(tmp_path / "precious.wav"))):
        (tmp_path / "precious.wav").write_text("mine")
        (out / ".manifest.jsonl").unlink(missing_ok=True)
        update_manifest(out, add=[replace(track, stems={**track.stems, "bass": name})])
        with pytest.raises(DatasetError, match=r"not a manifest .*track song: name .*: expected"):
            prepare_dataset(
                PreparationRequest(source=tmp_path / "in", out=out, sample_rate=16000 + number)
            )
        assert (tmp_path / "precious.wav").read_text() == "mine"


def test_litter_of_killed_runs_is_removed(tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    out = tmp_path / "out"
    (out / "train/song").mkdir(parents=True)
    for name in (
        "train/song/.bass.0123456789abcdef.part.wav",
        ".manifest.0123456789abcdef.part.json",
        "..sources.0123456789abcdef.part.json",
    ):
        (out / name).write_text("half")
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=out))
    assert [path for path in out.rglob("*") if ".part" in path.name] == []


def test_two_recordings_of_one_name_at_the_same_time(tmp_path: Path) -> None:
    for number, source in enumerate(("one", "two")):
        write_track(tmp_path / source / "song", seed=number)
    out = tmp_path / "out"
    skipped: list[tuple[str, str]] = []

    def prepare(source: str) -> None:
        skipped.extend(
            prepare_dataset(
                PreparationRequest(source=tmp_path / source, out=out, sample_rate=48000)
            ).skipped
        )

    threads = [threading.Thread(target=prepare, args=(source,)) for source in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((name, reason),) = skipped
    assert name == "train/song"
    assert reason.startswith("another recording named song has been prepared into this folder")
    (track,) = read_manifest(out)
    for stem, file in track.files.items():
        assert hashlib.sha256((out / file).read_bytes()).hexdigest() == track.sha256[stem]
