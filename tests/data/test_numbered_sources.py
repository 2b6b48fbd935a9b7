"""Data sets of sources without names, as WSJ0-2mix and LibriMix are laid out."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.layouts import find_tracks
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import ConfigError, DatasetError

RATE = 8000


def samples_of(name: str, source: int, frames: int = RATE) -> np.ndarray:
    """Give a noise of its own for every file, exact in 16 bits."""
    rng = np.random.default_rng([*name.encode(), source])
    return rng.integers(-8000, 8000, frames) / 32768


def write_split(folder: Path, *names: str, sources: int = 2, mix: str = "mix") -> None:
    for number in range(1, sources + 1):
        (folder / f"s{number}").mkdir(parents=True, exist_ok=True)
        for name in names:
            path = folder / f"s{number}/{name}.wav"
            soundfile.write(path, samples_of(name, number), RATE, subtype="PCM_16")
    (folder / mix).mkdir(exist_ok=True)
    for name in names:  # not the sum: with noise, as in mix_both
        soundfile.write(folder / mix / f"{name}.wav", samples_of(name, 0), RATE, subtype="PCM_16")


def places_of(source: Path) -> list[tuple[str, str]]:
    tracks, layout = find_tracks(source)
    assert layout == "numbered"
    assert not any(track.fault or track.mixture for track in tracks)
    return [(track.split, track.name) for track in tracks]


def test_wsj0_mix(tmp_path: Path) -> None:
    write_split(tmp_path / "tr", "011a0101_1.8_20aa010c_-1.8", "b")
    write_split(tmp_path / "cv", "c")
    write_split(tmp_path / "tt", "d")
    assert places_of(tmp_path) == [
        ("train", "011a0101_1.8_20aa010c_-1.8"),
        ("train", "b"),
        ("valid", "c"),
        ("test", "d"),
    ]


@pytest.mark.parametrize("above", ["", "min", "wav8k/min", "Libri2Mix/wav8k/min"])
def test_librimix(above: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train-100", "train-360", "dev", "test"):
        write_split(tmp_path / above / split, f"of-{split}", mix="mix_both")
    with caplog.at_level("WARNING"):
        assert places_of(tmp_path) == [
            ("train", "of-train-100"),
            ("train", "of-train-360"),
            ("valid", "of-dev"),
            ("test", "of-test"),
        ]
    assert caplog.messages == []


def test_one_split_alone_is_training_material(tmp_path: Path) -> None:
    write_split(tmp_path, "a", "b", sources=3)
    assert places_of(tmp_path) == [("train", "a"), ("train", "b")]


def test_stems_are_the_sources(tmp_path: Path) -> None:
    write_split(tmp_path / "in/tr", "a", "b", sources=3)
    write_split(tmp_path / "in/cv", "c", sources=3)
    prepared = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert (len(prepared.tracks), prepared.skipped, prepared.written) == (3, [], 3)
    dataset = StemDataset(tmp_path / "out", split="train", excerpt_seconds=0.5)
    assert dataset.stems == ("s1", "s2", "s3")
    assert [track.mixture for track in dataset.tracks] == [None, None]
    for track in dataset.tracks:
        for number, stem in enumerate(dataset.stems, start=1):
            found = dataset.read_whole(track, stem)
            np.testing.assert_array_equal(found, samples_of(track.name, number)[None])
        assert list(track.activity) == ["s1", "s2", "s3"]
    again = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert (again.written, again.tracks) == (0, prepared.tracks)


def test_tracks_are_held_out_where_none_are_for_validation(tmp_path: Path) -> None:
    write_split(tmp_path / "in/tr", "a", "b", "c")
    tracks = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ).tracks
    assert sorted(track.split for track in tracks) == ["train", "train", "valid"]


def test_file_without_its_partner_is_named(tmp_path: Path) -> None:
    write_split(tmp_path / "in/tr", "a", "b")
    write_split(tmp_path / "in/cv", "c")
    (tmp_path / "in/tr/s2/b.wav").unlink()
    prepared = prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out"))
    assert prepared.skipped == [("train/b", "expected stems s1, s2; missing s2")]
    with pytest.raises(DatasetError, match="train/b: expected stems s1, s2; missing s2; nothing"):
        prepare_dataset(
            PreparationRequest(source=tmp_path / "in", out=tmp_path / "strict", strict=True)
        )


def test_sources_of_different_lengths_are_named(tmp_path: Path) -> None:
    write_split(tmp_path / "in/tr", "a", "b")
    write_split(tmp_path / "in/cv", "c")
    soundfile.write(tmp_path / "in/tr/s2/b.wav", np.zeros(77), RATE)
    ((name, reason),) = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "out")
    ).skipped
    assert name == "train/b"
    assert "got s1 8000 Hz, 1 channels, 8000 frames; s2 8000 Hz, 1 channels, 77 frames" in reason


def test_two_files_of_one_name_are_a_fault(tmp_path: Path) -> None:
    write_split(tmp_path / "tr", "a")
    (tmp_path / "tr/s2/a.flac").touch()
    ((track,), _) = find_tracks(tmp_path)
    assert track.fault.startswith("expected one file for each name, found a.flac, a.wav:")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["wav8k/min/tr", "wav16k/min/tr"], "found wav16k/min, wav8k/min: prepare one of these"),
        (["min/tr", "max/tr"], "found max, min: prepare one of these"),
    ],
)
def test_several_sets_are_refused(folders: list[str], message: str, tmp_path: Path) -> None:
    for folder in folders:
        write_split(tmp_path / folder, "a")
    with pytest.raises(DatasetError, match=message):
        find_tracks(tmp_path)


def test_splits_of_different_sources_are_refused(tmp_path: Path) -> None:
    write_split(tmp_path / "tr", "a", sources=3)
    write_split(tmp_path / "cv", "b", sources=1)
    with pytest.raises(DatasetError, match=r"expected folders s1, s2, s3 in .*, found s1 in .*cv"):
        find_tracks(tmp_path)
    (tmp_path / "tr/s2").rename(tmp_path / "tr/s4")
    (tmp_path / "cv").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"expected folders s1, s2, s3 .*, found s1, s3, s4 in"):
        find_tracks(tmp_path)


def test_music_whose_tracks_are_numbered_stays_music(tmp_path: Path) -> None:
    for track in ("s1", "s2"):
        (tmp_path / "train" / track).mkdir(parents=True)
        for stem in ("vocals", "drums", "bass", "other"):
            (tmp_path / f"train/{track}/{stem}.wav").touch()
    tracks, layout = find_tracks(tmp_path)
    assert (layout, [track.name for track in tracks]) == ("folders", ["s1", "s2"])
    tracks, layout = find_tracks(tmp_path, layout="numbered")
    assert (layout, [track.name for track in tracks]) == (
        "numbered",
        ["bass", "drums", "other", "vocals"],
    )


def test_no_numbered_sources(tmp_path: Path) -> None:
    (tmp_path / "tr/s1").mkdir(parents=True)
    (tmp_path / "tr/s1/a.wav").touch()
    with pytest.raises(
        DatasetError, match=r"expected folders <split>/s1, <split>/s2, .* found none"
    ):
        find_tracks(tmp_path, layout="numbered")


def test_mapping_has_no_place_there(tmp_path: Path) -> None:
    write_split(tmp_path / "tr", "a")
    with pytest.raises(ConfigError, match="a mapping is for folders of stems, this has numbered"):
        prepare_dataset(
            PreparationRequest(source=tmp_path, out=tmp_path / "out", stem_map=["vocals=s1"])
        )


def test_tracks_of_two_kinds_are_refused(tmp_path: Path) -> None:
    for sources in (2, 3):
        write_split(tmp_path / f"{sources}/tr", f"of {sources}", sources=sources)
        prepare_dataset(PreparationRequest(source=tmp_path / f"{sources}", out=tmp_path / "out"))
    message = r"expected tracks of one kind, got s1, s2 in of 2 and s1, s2, s3 in of 3: prepare"
    with pytest.raises(DatasetError, match=message):
        StemDataset(tmp_path / "out", split="train", excerpt_seconds=None)
