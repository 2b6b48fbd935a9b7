import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from sfisep_core.audio.files import read_audio
from sfisep_core.data.exclusions import parse_exclusions
from sfisep_core.data.layouts import STEMS
from sfisep_core.data.manifest import MANIFEST_NAME, PreparedTrack, read_manifest
from sfisep_core.data.preparation import PreparationRequest, PrepareProgress
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import ConfigError, DatasetError

RATE = 8000


def noise(seed: int, *, frames: int = 2 * RATE, channels: int = 2) -> npt.NDArray[np.int16]:
    """Give 16-bit samples, shape (frames, channels), as soundfile wants them."""
    rng = np.random.default_rng(seed)
    return rng.integers(-8000, 8000, (frames, channels), dtype=np.int16)


def write_track(folder: Path, *, seed: int = 0, frames: int = 2 * RATE, rate: int = RATE) -> None:
    folder.mkdir(parents=True)
    for number, stem in enumerate(STEMS):
        soundfile.write(folder / f"{stem}.wav", noise(10 * seed + number, frames=frames), rate)


def state_of(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Describe every file, so that one that was written again is noticed."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_size) for p in files}


def names(tracks: Sequence[PreparedTrack]) -> list[str]:
    return [f"{track.split}/{track.name}" for track in tracks]


def touch_stems(folder: Path, *file_names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in file_names:
        (folder / name).touch()


def test_samples_and_manifest(tmp_path: Path) -> None:
    write_track(tmp_path / "in/train/song", seed=1)
    write_track(tmp_path / "in/test/song", seed=2, frames=2 * RATE + 1)
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert result.skipped == []
    assert result.folder == tmp_path / "out"
    assert read_manifest(tmp_path / "out") == result.tracks
    for track, seed, frames in zip(result.tracks, (1, 2), (2 * RATE, 2 * RATE + 1), strict=True):
        assert (track.name, track.sample_rate, track.channels) == ("song", RATE, 2)
        assert track.frames == frames
        assert list(track.stems) == list(STEMS)
        for number, stem in enumerate(STEMS):
            assert track.stems[stem] == f"{track.split}/song/{stem}.wav"
            path = tmp_path / "out" / track.stems[stem]
            assert soundfile.info(path).subtype == "PCM_16"
            written, rate = soundfile.read(path, dtype="int16")
            assert rate == RATE
            np.testing.assert_array_equal(written, noise(10 * seed + number, frames=frames))


def test_activity_is_the_rms_of_every_whole_second(tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    time = np.arange(int(2.5 * RATE)) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * time) * (time >= 1)
    for stem in STEMS:
        soundfile.write(tmp_path / f"in/song/{stem}.wav", tone, RATE, subtype="FLOAT")
    (track,) = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ).tracks
    assert track.channels == 1
    for stem in STEMS:
        assert track.activity[stem] == [0.0, pytest.approx(0.5 / math.sqrt(2), abs=1e-5)]


@pytest.mark.parametrize("last", [".WAV", ".opus", ".Mp3"])
def test_formats_may_be_mixed(last: str, tmp_path: Path) -> None:
    folder = tmp_path / "in/song"
    folder.mkdir(parents=True)
    kinds = {"vocals": ".wav", "drums": ".flac", "bass": ".ogg", "other": last}
    sample_rate = 48000 if last == ".opus" else RATE  # Opus is decoded at 48 kHz, whatever went in
    for number, (stem, suffix) in enumerate(kinds.items()):
        opus = {"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {}
        soundfile.write(folder / f"{stem}{suffix}", noise(number), sample_rate, **opus)
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert result.skipped == []
    (track,) = result.tracks
    for number, stem in enumerate(STEMS):
        written, _ = soundfile.read(tmp_path / "out" / track.stems[stem], dtype="int16")
        source = noise(number)
        assert written.shape == source.shape
        if kinds[stem].lower() in (".wav", ".flac"):  # the others are lossy
            np.testing.assert_array_equal(written, source)


@pytest.mark.parametrize(("target", "frames"), [(11025, 22052), (4000, 8001), (RATE, 16001)])
def test_resampling_keeps_tone_and_length(target: int, frames: int, tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    time = np.arange(2 * RATE + 1) / RATE
    for stem in STEMS:
        tone = 0.5 * np.sin(2 * np.pi * 440 * time)
        soundfile.write(tmp_path / f"in/song/{stem}.wav", tone, RATE, subtype="FLOAT")
    (track,) = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", sample_rate=target)
    ).tracks
    assert (track.sample_rate, track.frames) == (target, frames)
    written, rate = read_audio(tmp_path / "out" / track.stems["bass"])
    assert (rate, written.shape) == (target, (1, frames))
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(frames) / target)
    inner = slice(500, -500)
    np.testing.assert_allclose(written[0, inner], expected[inner], atol=2 / 32768)


@pytest.mark.parametrize(
    ("ranges", "spans"),
    [
        (["1-1.5"], [(0, 8000), (12000, 32000)]),
        (["0-1"], [(8000, 32000)]),
        (["3.00012-4"], [(0, 24001)]),
        (["3-9"], [(0, 24000)]),
        (["2-3", "0.5-1"], [(0, 4000), (8000, 16000), (24000, 32000)]),
        (["1-3", "2-2.5"], [(0, 8000), (24000, 32000)]),
        (["1-2", "2-3"], [(0, 8000), (24000, 32000)]),
        (["7-8", "9-10"], [(0, 32000)]),
        (["0-4"], []),
    ],
)
def test_exclusions_cut_at_exact_frames(
    ranges: list[str], spans: list[tuple[int, int]], tmp_path: Path
) -> None:
    write_track(tmp_path / "in/song", frames=4 * RATE)
    write_track(tmp_path / "in/untouched", seed=5, frames=4 * RATE)
    exclude = [f"song:{text}" for text in ranges]
    result = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", exclude=exclude)
    )
    expected = [f"train/song.{number}" for number in range(1, len(spans) + 1)]
    assert names(result.tracks) == [*expected, "valid/untouched"]
    assert result.skipped == []
    for track, (start, end) in zip(result.tracks, spans, strict=False):
        assert track.frames == end - start
        for number, stem in enumerate(STEMS):
            written, _ = soundfile.read(tmp_path / "out" / track.stems[stem], dtype="int16")
            np.testing.assert_array_equal(written, noise(number, frames=4 * RATE)[start:end])


def test_other_exclusions_cut_a_track_anew(tmp_path: Path) -> None:
    write_track(tmp_path / "in/other", seed=3)
    write_track(tmp_path / "in/song", frames=4 * RATE)
    source, out = tmp_path / "in", tmp_path / "out"
    cuts = {
        "": [("other", 16000), ("song", 32000)],
        "song:1-2": [("other", 16000), ("song.1", 8000), ("song.2", 16000)],
        "song:1-3": [("other", 16000), ("song.1", 8000), ("song.2", 8000)],
        "song:0-3": [("other", 16000), ("song.1", 8000)],
    }
    for exclusion in [*cuts, ""]:
        result = prepare_dataset(
            PreparationRequest(source=source, out=out, exclude=[exclusion] if exclusion else [])
        )
        assert sorted((track.name, track.frames) for track in result.tracks) == cuts[exclusion]
        assert read_manifest(out) == result.tracks
    written, _ = soundfile.read(out / "train/song/vocals.wav", dtype="int16")
    np.testing.assert_array_equal(written, noise(0, frames=4 * RATE))
    folders = sorted(path.relative_to(out).as_posix() for path in out.glob("*/*"))
    assert [name for name in folders if name.startswith(("train", "valid"))] == [
        "train/song",
        "valid/other",
    ]


def test_second_call_writes_nothing(tmp_path: Path) -> None:
    for number, track in enumerate(("train/a", "train/b", "valid/c")):
        write_track(tmp_path / "in" / track, seed=number)

    def prepare() -> list[PreparedTrack]:
        return prepare_dataset(
            PreparationRequest(
                source=tmp_path / "in", out=tmp_path / "out", sample_rate=11025, exclude=["b:0.5-1"]
            )
        ).tracks

    first, before = prepare(), state_of(tmp_path / "out")
    visible = [path for path in before if not path.is_relative_to(tmp_path / "out/.locks")]
    assert len(visible) == 4 * 4 + 3  # the manifest, its lock, and what is known of the sources
    assert prepare() == first
    assert state_of(tmp_path / "out") == before


def test_what_is_missing_is_done(tmp_path: Path) -> None:
    write_track(tmp_path / "in/train/a")
    write_track(tmp_path / "in/train/b", seed=1)
    write_track(tmp_path / "in/valid/v", seed=3)
    tracks = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ).tracks
    before = state_of(tmp_path / "out/train/a")
    (tmp_path / "out/train/b/bass.wav").unlink()
    write_track(tmp_path / "in/train/c", seed=2)
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert sorted(names(result.tracks)) == ["train/a", "train/b", "train/c", "valid/v"]
    assert all(track in result.tracks for track in tracks)
    assert state_of(tmp_path / "out/train/a") == before
    assert (tmp_path / "out/train/b/bass.wav").is_file()


def test_other_rate_prepares_anew(tmp_path: Path) -> None:
    write_track(tmp_path / "in/a")
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    (track,) = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", sample_rate=4000)
    ).tracks
    assert (track.sample_rate, track.frames) == (4000, 8000)


def test_two_sources_into_one_folder(tmp_path: Path) -> None:
    write_track(tmp_path / "one/a")
    write_track(tmp_path / "one/b", seed=1)
    write_track(tmp_path / "two/valid/a", seed=2)
    prepare_dataset(PreparationRequest(source=tmp_path / "one", out=tmp_path / "out"))
    result = prepare_dataset(PreparationRequest(source=tmp_path / "two", out=tmp_path / "out"))
    assert names(result.tracks) == ["train/a", "valid/a", "valid/b"]
    before = state_of(tmp_path / "out")
    again = prepare_dataset(PreparationRequest(source=tmp_path / "one", out=tmp_path / "out"))
    assert again == replace(result, written=0)
    assert state_of(tmp_path / "out") == before


def test_two_recordings_of_one_name_are_not_taken_for_each_other(tmp_path: Path) -> None:
    write_track(tmp_path / "one/song")
    write_track(tmp_path / "two/song", seed=1)  # same length, other music
    write_track(tmp_path / "two/tune", seed=2)
    prepare_dataset(PreparationRequest(source=tmp_path / "one", out=tmp_path / "out"))
    before = state_of(tmp_path / "out/train/song")
    result = prepare_dataset(PreparationRequest(source=tmp_path / "two", out=tmp_path / "out"))
    assert names(result.tracks) == ["train/song", "valid/tune"]
    assert result.skipped == [
        (
            "train/song",
            "another recording named song has been prepared into this folder before (or this one, "
            "before it was edited or moved): rename the track's folder, or prepare into another "
            "folder",
        )
    ]
    assert state_of(tmp_path / "out/train/song") == before


def test_unknown_track_in_an_exclusion(tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    with pytest.raises(DatasetError, match=r"^exclusion of 'sung': no such track in "):
        prepare_dataset(
            PreparationRequest(
                source=tmp_path / "in", out=tmp_path / "out", exclude=["song:0-1", "sung:0-1"]
            )
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["song", "song:1", "song:2-1", "song:1-1", ":1-2", "song:-1-2"])
def test_malformed_exclusion(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_exclusions([text])
    assert str(raised.value) == (
        f"exclusion {text!r}: expected TRACK:START-END in seconds, e.g. song:28-92"
    )


def test_exclusion_of_a_track_with_a_colon() -> None:
    (exclusion,) = parse_exclusions(["Song: the 2nd:1.5-20"])
    assert (exclusion.track, exclusion.start, exclusion.end) == ("Song: the 2nd", 1.5, 20.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"version": 2, "tracks": [', "not a manifest of a prepared data set"),
        (b"\xff\xfe\x00", "not a manifest of a prepared data set"),
        (b"[]", "not a manifest of a prepared data set"),
        (b'{"tracks": []}', "not a manifest of a prepared data set"),
        (b'{"version": 2}', "not a manifest of a prepared data set"),
        (b'{"version": 2, "tracks": [{"name": "x"}]}', "not a manifest of a prepared data set"),
        (b'{"version": 1, "tracks": []}', "expected version 2, got 1: prepare the data again"),
    ],
)
def test_corrupt_manifest_is_refused_and_left_alone(
    content: bytes, message: str, tmp_path: Path
) -> None:
    write_track(tmp_path / "in/song")
    (tmp_path / "out").mkdir()
    manifest = tmp_path / "out" / MANIFEST_NAME
    manifest.write_bytes(content)
    with pytest.raises(DatasetError, match=f"^{re.escape(str(manifest))}: {re.escape(message)}"):
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert state_of(tmp_path / "out").keys() == {manifest}
    assert manifest.read_bytes() == content


def test_missing_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"`sfisep prepare-data SOURCE --out {tmp_path}`"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"), [("file/out", "Not a directory"), ("x" * 300, "File name too long")]
)
def test_folder_that_cannot_be_made(name: str, reason: str, tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError) as raised:
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / name))
    assert str(raised.value) == (
        f"data set {tmp_path / name}: cannot be made: {reason}; choose another folder"
    )


def test_progress_after_every_track(tmp_path: Path) -> None:
    write_track(tmp_path / "in/a")
    touch_stems(tmp_path / "in/b", "vocals.wav")
    reports: list[PrepareProgress] = []
    prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"), progress=reports.append
    )
    # What names alone show to be unusable counts as done from the start.
    assert reports == [PrepareProgress("", 1, 2), PrepareProgress("a", 2, 2)]


def test_manifest_is_readable_json_without_absolute_paths(tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    text = (tmp_path / "out" / MANIFEST_NAME).read_text(encoding="utf-8")
    assert json.loads(text)["version"] == 2
    assert str(tmp_path) not in text


def test_unusable_validation_tracks_do_not_count(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_track(tmp_path / "in/train" / name)
    write_track(tmp_path / "in/valid/broken")
    (tmp_path / "in/valid/broken/drums.wav").unlink()
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert sorted(track.split for track in result.tracks) == ["train", "valid"]
    assert [name for name, _ in result.skipped] == ["valid/broken"]


def test_tracks_with_exclusions_are_not_held_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_track(tmp_path / "in" / name, frames=4 * RATE)
    drawn = [
        t
        for t in prepare_dataset(
            PreparationRequest(source=tmp_path / "in", out=tmp_path / "1")
        ).tracks
        if t.split == "valid"
    ]
    exclude = [f"{drawn[0].name}:0-1"]
    tracks = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "2", exclude=exclude)
    ).tracks
    held_out = [track.name for track in tracks if track.split == "valid"]
    assert len(held_out) == 1
    assert held_out[0] != drawn[0].name


def test_manifest_of_other_types_is_refused(tmp_path: Path) -> None:
    write_track(tmp_path / "in/a")
    prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    path = tmp_path / "out/manifest.json"
    text = path.read_text(encoding="utf-8")
    bass = '"bass": "train/a/bass.wav"'
    for old, new, message in (
        ('"frames": 16000', '"frames": "x"', "frames: expected a whole number from 1 to"),
        ('"frames": 16000', '"frames": 0', "frames: expected a whole number from 1 to"),
        ('"frames": 16000', f'"frames": {"9" * 400}', "frames: .* got 9{100}[.]{3}"),
        ('"frames": 16000', '"frames": true', "frames: .* got True"),
        ('"frames": 16000', '"x": 16000', "unexpected field 'x'"),
        ('"split": "train"', '"split": "dev"', "split: expected one of train, valid, test, got"),
        ('"name": "a"', '"name": ["a"]', r"name: expected a text, got \['a'\]"),
        ('"name": "a", ', "", "name: expected a text, got nothing"),
        (bass, '"bass": 3', r"stems\.bass: expected a str, got 3"),
        (bass, '"bass": ["x"]', r"stems\.bass: expected a str, got"),
        ('"activity": {', '"activity": {"x": [[1]], ', "activity: expected numbers, got"),
        ('"channels": 2', '"channels": 1e3', "channels: expected a whole number from 1 to"),
    ):
        assert text.count(old) == 1, old
        path.write_text(text.replace(old, new), encoding="utf-8")
        expected = rf"not a manifest of a prepared data set \(track 1: {message}"
        with pytest.raises(DatasetError, match=expected):
            read_manifest(tmp_path / "out")


@pytest.mark.parametrize("name", ["/abs/x", "../../x", "..", ".", "", "a/b", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    (track,) = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ).tracks
    path = tmp_path / "out" / MANIFEST_NAME
    content = json.loads(path.read_text())
    bass = track.stems["bass"]
    hostile = [
        {"name": name},
        {"split": name},
        {"stems": {**track.stems, "bass": f"train/{name}/bass.wav" if name != "a/b" else "/a"}},
        {"stems": {**track.stems, name: bass}, "activity": {**track.activity, name: []}},
    ]
    for fields in hostile:
        path.write_text(json.dumps({**content, "tracks": [content["tracks"][0] | fields]}))
        with pytest.raises(DatasetError, match="not a manifest of a prepared data set"):
            read_manifest(tmp_path / "out")


def test_message_about_a_damaged_manifest_is_short(tmp_path: Path) -> None:
    for content in (
        b'{"version": 2, "tracks": ["' + b"x" * 10**6 + b'"]}',
        b'{"version": 2, "' + b"x" * 10**6 + b"\xff",
        b'{"version": "' + b"x" * 10**6 + b'"}',
        b'{"version": 2, "tracks": [{"name": "' + b"x" * 10**6 + b'", "y": 1}]}',
        b"[" * 10**6,
    ):
        (tmp_path / MANIFEST_NAME).write_bytes(content)
        with pytest.raises(DatasetError) as raised:
            read_manifest(tmp_path)
        assert len(str(raised.value)) < 600
