"""Tracks that cannot be prepared: each is told by name, with the reason."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from sfisep_core.data.layouts import STEMS, SourceFile, SourceTrack
from sfisep_core.data.manifest import read_manifest
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.data.track_plan import PreparationJob
from sfisep_core.data.track_preparation import prepare_track
from sfisep_core.errors import ConfigError, DatasetError

RATE = 8000
FRAMES = 2 * RATE
SHAPE = f"{RATE} Hz, 2 channels, {FRAMES} frames"
TOGETHER = "expected stems of one rate, channel count and length, got "


def noise(*, frames: int = FRAMES, channels: int = 2) -> npt.NDArray[np.int16]:
    return np.random.default_rng(0).integers(-8000, 8000, (frames, channels), dtype=np.int16)


def write_track(folder: Path) -> None:
    folder.mkdir(parents=True)
    for stem in STEMS:
        soundfile.write(folder / f"{stem}.wav", noise(), RATE)


def lose_stems(folder: Path) -> None:
    (folder / "drums.wav").unlink()
    (folder / "other.wav").unlink()


def shorten(folder: Path) -> None:
    soundfile.write(folder / "drums.wav", noise(frames=FRAMES - 1), RATE)


def shorten_mixture(folder: Path) -> None:
    soundfile.write(folder / "mixture.wav", noise(frames=FRAMES - 1), RATE)


def empty_all(folder: Path) -> None:
    for stem in STEMS:
        soundfile.write(folder / f"{stem}.wav", noise(frames=0), RATE)


def change_rate(folder: Path) -> None:
    soundfile.write(folder / "other.wav", noise(), 2 * RATE)


def use_unknown_rate(folder: Path) -> None:
    for stem in STEMS:
        soundfile.write(folder / f"{stem}.wav", noise(), 2000)


def use_one_channel(folder: Path) -> None:
    soundfile.write(folder / "bass.wav", noise(channels=1), RATE)


def empty_file(folder: Path) -> None:
    (folder / "vocals.wav").write_bytes(b"")


def write_text(folder: Path) -> None:
    (folder / "vocals.wav").write_text("these are the lyrics")


def make_folder(folder: Path) -> None:
    (folder / "vocals.wav").unlink()
    (folder / "vocals.wav").mkdir()


def break_link(folder: Path) -> None:
    (folder / "vocals.wav").unlink()
    (folder / "vocals.wav").symlink_to(folder / "nowhere.wav")


def cut_flac(folder: Path) -> None:
    (folder / "bass.wav").unlink()
    soundfile.write(folder / "bass.flac", noise(), RATE)
    content = (folder / "bass.flac").read_bytes()
    (folder / "bass.flac").write_bytes(content[: len(content) // 2])


def cut_wav(folder: Path) -> None:
    content = (folder / "bass.wav").read_bytes()
    (folder / "bass.wav").write_bytes(content[: len(content) // 2])


def write_nan(folder: Path) -> None:
    samples = noise() / 32768
    samples[RATE, 1] = np.nan
    soundfile.write(folder / "other.wav", samples, RATE, subtype="FLOAT")


def double(folder: Path) -> None:
    soundfile.write(folder / "other.flac", noise(), RATE)


FAULTS: dict[Callable[[Path], None], list[str]] = {
    lose_stems: ["expected stems vocals, drums, bass, other; missing drums, other"],
    shorten: [TOGETHER, f"drums {RATE} Hz, 2 channels, {FRAMES - 1} frames; other {SHAPE}; "],
    shorten_mixture: [TOGETHER, f"mixture {RATE} Hz, 2 channels, {FRAMES - 1} frames"],
    empty_all: ["expected music, got stems of 0 frames"],
    change_rate: [TOGETHER, f"other {2 * RATE} Hz, 2 channels, {FRAMES} frames; vocals {SHAPE}"],
    use_unknown_rate: ["a sample rate of 4000 to 384000 Hz, found 2000 Hz"],
    use_one_channel: [TOGETHER, f"bass {RATE} Hz, 1 channels, {FRAMES} frames; drums {SHAPE}; "],
    empty_file: ["vocals.wav': expected an audio file", "found an empty file"],
    write_text: ["vocals.wav': expected audio", "found data that begin with b'these are the ly'"],
    make_folder: ["vocals.wav': expected an audio file", "found a folder"],
    break_link: ["No such file or directory", "vocals.wav"],
    cut_flac: ["bass.flac is damaged: expected 16000 frames, ", " could be decoded"],
    cut_wav: [TOGETHER, f"bass {RATE} Hz, 2 channels, "],
    write_nan: ["other.wav': expected finite samples, found nan at 1.000 s in channel 2 of 2"],
    double: ["expected one file for each name, found other.flac, other.wav"],
}


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_faulty_track(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("train/a good one", "train/song", "valid/v"):
        write_track(source / name)
    spoil(source / "train/song")

    result = prepare_dataset(PreparationRequest(source=source, out=out))
    assert [track.name for track in result.tracks] == ["a good one", "v"]
    assert read_manifest(out) == result.tracks
    ((name, reason),) = result.skipped
    assert name == "train/song"
    for part in FAULTS[spoil]:
        assert part in reason
    assert not list(out.glob("train/song/*"))

    with pytest.raises(DatasetError) as raised:
        prepare_dataset(PreparationRequest(source=source, out=tmp_path / "strict", strict=True))
    assert str(raised.value) == (
        f"train/song: {reason}; nothing further is prepared, as --strict asks"
    )
    # Tracks come in order: "a good one" was before, unless names alone told of the fault.
    before = [] if spoil in (lose_stems, double) else ["train/a good one"]
    found = [
        track.parent.relative_to(tmp_path / "strict").as_posix()
        for track in sorted((tmp_path / "strict").glob("*/*/vocals.wav"))
    ]
    assert found == before


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By name: to root, which may run this, no file is unreadable.
    write_track(tmp_path / "in/song")
    read = Path.is_file

    def is_file(path: Path) -> bool:
        if path.name == "drums.wav":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    ((name, reason),) = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ).skipped
    assert name == "train/song"
    assert "drums.wav'" in reason
    assert "Permission denied" in reason


def test_fault_of_a_track_that_is_prepared_leaves_what_is_there(tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    (track,) = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ).tracks
    shorten(tmp_path / "in/song")
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert [name for name, _ in result.skipped] == ["train/song"]
    assert result.tracks == [track]
    assert (tmp_path / "out" / track.stems["drums"]).is_file()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_source_files_that_are_devices_or_pipes_are_faults(tmp_path: Path) -> None:
    for name in ("device", "pipe", "good"):
        write_track(tmp_path / "in" / name)
    (tmp_path / "in/device/bass.wav").unlink()
    (tmp_path / "in/device/bass.wav").symlink_to("/dev/zero")
    (tmp_path / "in/pipe/bass.wav").unlink()
    os.mkfifo(tmp_path / "in/pipe/bass.wav")
    result = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert [track.name for track in result.tracks] == ["good"]
    assert len(result.skipped) == 2
    assert all("found no regular file" in reason for _, reason in result.skipped)


def test_container_whose_name_leads_elsewhere_is_a_fault(tmp_path: Path) -> None:
    name, split = "..", "train"
    stems = {stem: (SourceFile(tmp_path / f"in/{stem}.wav"),) for stem in STEMS}
    write_track(tmp_path / "in")
    job = PreparationJob(
        track=SourceTrack(name, split, tmp_path / "in", stems),
        out=tmp_path / "out",
        sample_rate=None,
        container="wav",
        encoding="int16",
        exclusions=(),
        splits=frozenset({split}),
        known=None,
        verify=False,
    )
    (tmp_path / "out").mkdir()
    outcome = prepare_track(job)
    assert outcome.fault.startswith("name '..': expected a name of one file or folder")
    assert list((tmp_path / "out").rglob("*.wav")) == []


@pytest.mark.slow
def test_two_tracks_that_would_get_one_name(tmp_path: Path) -> None:
    for path in ("train/a", "train/b", "train/b.2", "valid/c", "val/c"):
        write_track(tmp_path / "in" / path)
    exclude = ["b:0.5-1"]
    result = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", exclude=exclude, jobs=2)
    )
    names = [f"{track.split}/{track.name}" for track in result.tracks]
    assert names == ["train/a", "train/b.1", "train/b.2", "valid/c"]
    assert [name for name, _ in result.skipped] == ["train/b.2", "valid/c"]
    assert f"{tmp_path / 'in/train/b'} gets the same: rename one" in result.skipped[0][1]
    assert result.tracks[2].frames == RATE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jobs": 0}, "jobs: expected 1 or more at the same time, got 0"),
        ({"shard": "3/2"}, "expected I/N"),
        ({"stem_map": ["x=y"]}, "expected STEM=NAME"),
        ({"container": "flac", "encoding": "float32"}, "expected int16 or int24 in FLAC"),
        ({"container": "flac", "sample_rate": 96001}, "up to 65535 Hz, or a multiple of 10"),
    ],
)
def test_settings_are_checked_before_any_work(
    settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    write_track(tmp_path / "in/song")
    with pytest.raises(ConfigError, match=message):
        prepare_dataset(
            PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", **settings)
        )  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_source_is_never_written_over(tmp_path: Path) -> None:
    write_track(tmp_path / "in/train/song")
    with pytest.raises(ConfigError, match="would be written over the source files"):
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "in/train/.."))
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"train"}


def test_source_inside_the_prepared_splits_is_never_written_over(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_track(out / "train/song")
    before = (out / "train/song/vocals.wav").read_bytes()
    with pytest.raises(ConfigError, match="would be written over the source"):
        prepare_dataset(PreparationRequest(source=out / "train", out=out))
    assert (out / "train/song/vocals.wav").read_bytes() == before


def test_folder_with_files_of_others_is_not_written_to(tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    write_track(tmp_path / "out/train/song")
    with pytest.raises(DatasetError, match="expected an empty folder or a prepared data set, fo"):
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train"]


def test_tracks_that_are_gone_from_the_source_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("train/a", "train/b", "valid/c"):
        write_track(source / name)
    prepare_dataset(PreparationRequest(source=source, out=out))
    (source / "train/b").rename(source / "train/b2")
    with caplog.at_level("WARNING"):
        prepare_dataset(PreparationRequest(source=source, out=out))
    assert any("no longer there, or renamed: b; what was prepared" in m for m in caplog.messages)


def test_data_set_without_validation_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_track(tmp_path / "in/song")
    with caplog.at_level("WARNING"):
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert any("no track is left to validate on" in message for message in caplog.messages)


@pytest.mark.parametrize("content", ['{"a": {"origin": 1}}', '{"a": 5}', "[]", "null"])
def test_damaged_memory_of_sources_only_costs_time(content: str, tmp_path: Path) -> None:
    write_track(tmp_path / "in/song")
    first = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    (tmp_path / "out/.sources.json").write_text(content)
    again = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert again.tracks == first.tracks
    assert not again.skipped
