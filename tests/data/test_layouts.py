import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfisep_core.data import musdb18
from sfisep_core.data.layouts import (
    OWN_NAMES,
    STEMS,
    Layout,
    SourceFile,
    SourceTrack,
    find_tracks,
    parse_stem_map,
)
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.data.splits import hold_out_tracks, split_as_musdb18
from sfisep_core.errors import ConfigError, DatasetError

VALIDATION_TRACK = "Leaf - Summerghost"


def touch(folder: Path, *file_names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in file_names:
        (folder / name).touch()


def touch_track(folder: Path) -> None:
    touch(folder, *(f"{stem}.wav" for stem in STEMS))


def files_of(track: SourceTrack) -> dict[str, list[str]]:
    return {stem: [file.path.name for file in files] for stem, files in track.stems.items()}


def test_split_folders_are_found_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for track in ("valid/v", "test/b", "test/a", "train/song"):
        touch_track(tmp_path / track)
    touch(tmp_path / "train" / "no stems", "mixture.wav")
    touch(tmp_path / "elsewhere", "vocals.wav")
    touch(tmp_path / ".trash", "vocals.wav")
    with caplog.at_level("WARNING"):
        tracks, layout = find_tracks(tmp_path)
    assert layout == "folders"
    assert caplog.messages == [
        f"{tmp_path}: beside train, valid, test, these folders are left out: elsewhere"
    ]
    missing = "expected stems vocals, drums, bass, other; missing vocals, drums, bass, other"
    assert [(track.split, track.name, track.fault) for track in tracks] == [
        ("train", "no stems", missing),
        ("train", "song", ""),
        ("valid", "v", ""),
        ("test", "a", ""),
        ("test", "b", ""),
    ]


@pytest.mark.parametrize("name", ["valid", "validation", "val"])
def test_names_of_the_validation_folder(name: str, tmp_path: Path) -> None:
    touch_track(tmp_path / "train/a")
    touch_track(tmp_path / name / "b")
    tracks, _ = find_tracks(tmp_path)
    assert [(track.split, track.name) for track in tracks] == [("train", "a"), ("valid", "b")]


def test_tracks_without_split_are_training_material(tmp_path: Path) -> None:
    files = ["vocals.wav", "drums.FLAC", "bass.ogg", "other.Mp3", "mixture.oPus", "._bass.wav"]
    touch(tmp_path / "song", *files)
    touch(tmp_path / "part", "vocals.opus", "drums.txt")
    (part, song), _ = find_tracks(tmp_path)
    folder = tmp_path / "song"
    whole = {stem: (SourceFile(folder / name),) for stem, name in zip(STEMS, files, strict=False)}
    mixture = SourceFile(folder / "mixture.oPus")
    assert song == SourceTrack("song", "train", folder, whole, mixture)
    assert (part.name, files_of(part), part.mixture) == ("part", {"vocals": ["vocals.opus"]}, None)
    assert part.fault == "expected stems vocals, drums, bass, other; missing drums, bass, other"


@pytest.mark.parametrize(
    ("name", "layout", "message"),
    [
        ("nothing", "auto", "expected a folder, found nothing"),
        ("file", "auto", "expected a folder, found a file"),
        (
            "empty",
            "folders",
            "expected folders <split>/<track>/ or <track>/ with files named vocals, drums, bass, "
            "other and a suffix of .wav .flac .ogg .opus .mp3; found none",
        ),
        (
            "empty",
            "musdb18",
            "expected files train/<track>.stem.mp4 and test/<track>.stem.mp4; found none",
        ),
        (
            "empty",
            "auto",
            "expected folders <split>/<track>/ or <track>/ with files named vocals, drums, bass, "
            "other and a suffix of .wav .flac .ogg .opus .mp3, or files train/<track>.stem.mp4 and "
            "test/<track>.stem.mp4, or folders <split>/s1, <split>/s2, ... with files of equal "
            "names; found none",
        ),
    ],
)
def test_source_without_tracks(name: str, layout: Layout, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError) as raised:
        prepare_dataset(
            PreparationRequest(source=tmp_path / name, out=tmp_path / "out", layout=layout)
        )
    assert str(raised.value).startswith(f"data set {tmp_path / name}: {message}: ")
    assert not (tmp_path / "out").exists()


def test_stem_mp4_files_are_found(tmp_path: Path) -> None:
    touch(tmp_path / "train", "b.stem.mp4", "a.STEM.MP4", "._b.stem.mp4", "cover.mp4")
    touch(tmp_path / "test", "c.stem.mp4")
    tracks, layout = find_tracks(tmp_path)
    assert layout == "musdb18"
    found = [(track.split, track.name) for track in tracks]
    assert found == [("train", "a"), ("train", "b"), ("test", "c")]
    path = tmp_path / "train/b.stem.mp4"
    assert tracks[1].path == path
    assert tracks[1].stems == {stem: (SourceFile(path, stem),) for stem in STEMS}
    assert tracks[1].mixture == SourceFile(path, "mixture")
    with pytest.raises(ConfigError, match="a mapping is for folders of stems"):
        find_tracks(tmp_path, stem_map=parse_stem_map(["vocals=lead"]))


def test_two_layouts_in_one_folder_are_a_question_to_the_user(tmp_path: Path) -> None:
    touch(tmp_path / "train", "a.stem.mp4")
    touch_track(tmp_path / "train/a")
    touch_track(tmp_path / "train/b")
    with pytest.raises(DatasetError, match=r"found 1 \.stem\.mp4 files and 2 folders of stems"):
        find_tracks(tmp_path)
    layouts: tuple[Layout, ...] = ("musdb18", "musdb18-hq", "folders")
    found = [find_tracks(tmp_path, layout=layout) for layout in layouts]
    assert [(len(tracks), layout) for tracks, layout in found] == [
        (1, "musdb18"),
        (2, "musdb18-hq"),
        (2, "folders"),
    ]


@pytest.mark.parametrize(
    ("tracks", "layout"),
    [
        ([f"train/{VALIDATION_TRACK}", "test/b"], "musdb18-hq"),
        ([f"train/{VALIDATION_TRACK}", "valid/b"], "folders"),
        ([f"test/{VALIDATION_TRACK}", "train/b"], "folders"),
        ([VALIDATION_TRACK], "folders"),
        (["train/b", "test/c"], "folders"),
    ],
)
def test_musdb18_hq_is_detected_by_its_validation_tracks(
    tracks: list[str], layout: Layout, tmp_path: Path
) -> None:
    for track in tracks:
        touch_track(tmp_path / track)
    assert find_tracks(tmp_path)[1] == layout


def test_stem_map() -> None:
    assert parse_stem_map([]) == OWN_NAMES
    assert parse_stem_map(["vocals=lead, backing", "other=guitar", "mixture=mix"]) == {
        "vocals": ("lead", "backing"),
        "drums": ("drums",),
        "bass": ("bass",),
        "other": ("guitar",),
        "mixture": ("mix",),
    }


@pytest.mark.parametrize(
    "text", ["vocals", "vocals=", "vocals=a,,b", "voice=a", "=a", "mixture=a,b"]
)
def test_malformed_stem_map(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^mapping {text!r}: expected STEM=NAME or "):
        parse_stem_map([text])


@pytest.mark.parametrize(
    ("texts", "stems"),
    [(["vocals=a", "other=a"], "vocals, other"), (["other=bass"], "bass, other")],
)
def test_file_in_two_stems_is_refused(texts: list[str], stems: str) -> None:
    with pytest.raises(ConfigError, match=rf"is used more than once \({stems}\)"):
        parse_stem_map(texts)


def test_mapped_files_are_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "a", "lead.wav", "backing.FLAC", "drums.wav", "bass.wav", "other.wav")
    touch(tmp_path / "b", "lead.wav", "drums.wav", "bass.wav", "other.wav", "click.wav", "mix.wav")
    stem_map = parse_stem_map(["vocals=lead,backing", "mixture=mix"])
    with caplog.at_level(logging.INFO):
        (a, b), _ = find_tracks(tmp_path, stem_map=stem_map)
    assert files_of(a)["vocals"] == ["lead.wav", "backing.FLAC"]
    assert files_of(b)["vocals"] == ["lead.wav"]
    assert (a.mixture, b.mixture) == (None, SourceFile(tmp_path / "b/mix.wav"))
    assert caplog.messages == ["files that belong to no stem are left out: click (1 tracks)"]


def test_mapped_name_that_no_track_has_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a", "lead.wav", "drums.wav", "bass.wav", "other.wav")
    stem_map = parse_stem_map(["vocals=lead,baking"])
    with pytest.raises(DatasetError, match=r"no track has a file named 'baking' .*there are bass"):
        find_tracks(tmp_path, stem_map=stem_map)


def test_two_files_of_one_name_are_a_fault(tmp_path: Path) -> None:
    touch_track(tmp_path / "a")
    touch(tmp_path / "a", "vocals.flac")
    ((track,), _) = find_tracks(tmp_path)
    assert track.fault == (
        "expected one file for each name, found vocals.flac, vocals.wav: remove what is not to "
        "count"
    )


def tracks_of(*paths: str) -> list[SourceTrack]:
    """Give complete tracks; a name that ends in ! lacks its stems."""
    found = []
    for path in paths:
        split, name = path.split("/")
        stems = {} if name.endswith("!") else {stem: (SourceFile(Path(path)),) for stem in STEMS}
        found.append(SourceTrack(name, split, Path(path), stems))
    return found


def places(tracks: list[SourceTrack]) -> list[str]:
    return [f"{track.split}/{track.name}" for track in tracks]


# SHA-256 modulo 100: a 99, b 65, c 58, take6 9, take19 1.
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["train/a"], ["train/a"]),
        (["train/a", "train/b", "train/c"], ["train/a", "train/b", "valid/c"]),
        (["train/a", "train/b", "test/c"], ["train/a", "valid/b", "test/c"]),
        (["train/a", "train/b", "valid/c"], ["train/a", "train/b", "valid/c"]),
        (["train/a", "train/take6", "train/take19"], ["train/a", "valid/take19", "valid/take6"]),
        (["train/take6", "train/take19"], ["train/take6", "valid/take19"]),
        (["train/take6"], ["train/take6"]),
        (["test/a", "test/b"], ["test/a", "test/b"]),
        (["train/a", "train/b!"], ["train/a", "train/b!"]),
    ],
)
def test_tracks_held_out(given: list[str], expected: list[str]) -> None:
    assert places(hold_out_tracks(tracks_of(*given))) == expected


def test_standard_validation_split() -> None:
    names = sorted(musdb18.VALIDATION_TRACKS)
    given = [f"train/{name}" for name in names] + [f"train/song {i}" for i in range(86)]
    tracks = split_as_musdb18(tracks_of(*given, f"test/{names[0]}", "test/x"))
    held_out = [track.name for track in tracks if track.split == "valid"]
    assert (len(names), held_out) == (14, names)
    assert sum(track.split == "train" for track in tracks) == 86
    assert places(tracks)[-2:] == [f"test/{names[0]}", "test/x"]
    # What the standard split has for validation is enough.
    assert hold_out_tracks(tracks) == tracks


def test_song_that_is_named_like_a_split(tmp_path: Path) -> None:
    for track in ("test", "valid", "other song"):
        touch_track(tmp_path / track)
    tracks, _ = find_tracks(tmp_path)
    assert [(t.split, t.name) for t in tracks] == [
        ("train", "other song"),
        ("train", "test"),
        ("train", "valid"),
    ]


def test_mapping_of_one_stem_may_be_split_up(tmp_path: Path) -> None:
    # The file's name as macOS writes it, the letter and its accent apart.
    touch(
        tmp_path / "song", "vocals.wav", "drums.wav", "bass.wav", "guitar.wav", "Gita\u0308rre.wav"
    )
    stem_map = parse_stem_map(["other=guitar", "other=Git\u00e4rre"])
    ((track,), _) = find_tracks(tmp_path, stem_map=stem_map)
    names = [file.path.name for file in track.stems["other"]]
    assert names == ["guitar.wav", "Gita\u0308rre.wav"]


def test_folder_that_cannot_be_read_is_a_fault_of_its_track(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for track in ("a", "b"):
        touch_track(tmp_path / track)
    real = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder == tmp_path / "a":
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    tracks, _ = find_tracks(tmp_path)
    faults = {track.name: track.fault for track in tracks}
    assert faults == {"a": "its folder cannot be read: Permission denied", "b": ""}
