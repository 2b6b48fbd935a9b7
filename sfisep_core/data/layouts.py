"""Find the tracks of a data set in its folders."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from sfisep_core.data import musdb18
from sfisep_core.data.numbered_sources import find_numbered
from sfisep_core.data.source_tracks import (
    MIXTURE,
    SPLITS,
    STEMS,
    SUFFIXES,
    SourceFile,
    SourceTrack,
    audio_files,
    holds_audio,
    name_twice,
)
from sfisep_core.errors import ConfigError, DatasetError

_logger = logging.getLogger(__name__)

__all__ = [
    "MIXTURE",
    "OWN_NAMES",
    "SPLITS",
    "STEMS",
    "Layout",
    "SourceFile",
    "SourceTrack",
    "find_tracks",
    "parse_stem_map",
]

Layout = Literal["auto", "musdb18", "musdb18-hq", "folders", "numbered"]
StemMap = Mapping[str, tuple[str, ...]]

OWN_NAMES: StemMap = {name: (name,) for name in (*STEMS, MIXTURE)}
"""The mapping of a data set whose files have the names of the stems."""

_SPLIT_FOLDERS = {"train": ("train",), "valid": ("valid", "validation", "val"), "test": ("test",)}


def parse_stem_map(texts: Sequence[str]) -> StemMap:
    """Parse a mapping from stems to files, written as `STEM=NAME[,NAME...]`.

    Args:
        texts: One for each stem whose files have other names, or for "mixture"; names are without
            suffix.

    Returns:
        Names of the files for every stem and for the mixture.

    Raises:
        ConfigError: A text has another form, a stem is unknown, or a file is in two stems.
    """
    stem_map: dict[str, tuple[str, ...]] = {}
    for text in texts:
        stem, _, right = text.partition("=")
        names = tuple(_plain(name.strip()) for name in right.split(","))
        if stem not in OWN_NAMES or not all(names) or (stem == MIXTURE and len(names) > 1):
            msg = (
                f"mapping {text!r}: expected STEM=NAME or STEM=NAME,NAME, with STEM one of "
                f"{', '.join(STEMS)}, e.g. vocals=lead,backing; or {MIXTURE}=NAME"
            )
            raise ConfigError(msg)
        stem_map[stem] = (*stem_map.get(stem, ()), *names)
    stem_map = {**OWN_NAMES, **stem_map}
    uses = Counter(name for names in stem_map.values() for name in names)
    twice = [name for name, count in uses.items() if count > 1]
    if twice:
        stems = [stem for stem, names in stem_map.items() if twice[0] in names]
        msg = (
            f"mapping: the file {twice[0]!r} is used more than once ({', '.join(stems)}): each "
            "file belongs to one stem"
        )
        raise ConfigError(msg)
    return stem_map


def find_tracks(
    source: Path, *, layout: Layout = "auto", stem_map: StemMap = OWN_NAMES
) -> tuple[list[SourceTrack], Layout]:
    """Find the tracks of a data set.

    Args:
        source: Folder of the data set.
        layout: "musdb18" is `<split>/<track>.stem.mp4`; "folders" is `<split>/<track>/<stem>.*`,
            as is "musdb18-hq". Without the split folders train, valid (validation, val) and test,
            all tracks count as training material. "numbered" is `<split>/{s1,s2,...}/<track>.*`,
            see `find_numbered`. "auto" detects the layout.
        stem_map: Names of the files of a stem, without suffix; the existing ones are summed.

    Returns:
        The tracks in order of split and name, any folder with at least one stem file among them;
        and the layout, which is no longer "auto".

    Raises:
        ConfigError: There is a mapping for a layout without named files.
        DatasetError: The folder is missing, or contains no tracks or tracks of two layouts; a
            mapped name matches no file; or see `find_numbered`.
    """
    if not source.is_dir():
        found_instead = "a file" if source.exists() else "nothing"
        msg = (
            f"data set {source}: expected a folder, found {found_instead}: check the path, or "
            "make a small data set with `sfisep prepare-data --demo DIR`"
        )
        raise DatasetError(msg)
    try:
        return _find_tracks(source, layout, stem_map)
    except OSError as error:
        msg = f"data set {source}: {error.filename} cannot be read: {error.strerror}: give access"
        raise DatasetError(msg) from error


def _find_tracks(
    source: Path, layout: Layout, stem_map: StemMap
) -> tuple[list[SourceTrack], Layout]:
    splits = _split_folders(source)
    containers = _find_containers(splits) if layout in ("auto", "musdb18") else []
    folders = _find_folders(splits, stem_map) if layout not in ("musdb18", "numbered") else []
    if containers and folders:
        msg = (
            f"data set {source}: expected one layout, found {len(containers)} {musdb18.SUFFIX} "
            f"files and {len(folders)} folders of stems: choose --layout musdb18 or folders"
        )
        raise DatasetError(msg)
    if not containers and not folders:
        # Last, since tracks may be named s1, s2, ...
        numbered = find_numbered(source) if layout in ("auto", "numbered") else []
        if not numbered:
            raise DatasetError(_nothing_found(source, layout, stem_map))
        _refuse_mapping(source, stem_map, "numbered sources")
        return numbered, "numbered"
    _warn_of_others(source, splits)
    if containers:
        _refuse_mapping(source, stem_map, f"{musdb18.SUFFIX} files")
        return containers, "musdb18"
    _check_names(source, folders, stem_map)
    if layout == "auto":
        layout = "musdb18-hq" if _is_musdb18_hq(source, folders) else "folders"
    return folders, layout


def _refuse_mapping(source: Path, stem_map: StemMap, found: str) -> None:
    if stem_map != OWN_NAMES:
        msg = (
            f"data set {source}: a mapping is for folders of stems, this has {found}: leave --map "
            "out"
        )
        raise ConfigError(msg)


def _find_containers(splits: Sequence[tuple[str, Path]]) -> list[SourceTrack]:
    tracks = []
    for split, folder in splits:
        for path in sorted(folder.iterdir()):
            is_container = path.name.lower().endswith(musdb18.SUFFIX) and path.is_file()
            if is_container and not path.name.startswith("._"):
                files = {stream: SourceFile(path, stream) for stream in musdb18.STREAMS}
                stems: dict[str, tuple[SourceFile, ...]] = {s: (files[s],) for s in STEMS}
                name = path.name[: -len(musdb18.SUFFIX)]
                tracks.append(SourceTrack(name, split, path, stems, files[MIXTURE]))
    return tracks


def _find_folders(splits: Sequence[tuple[str, Path]], stem_map: StemMap) -> list[SourceTrack]:
    tracks = [
        _read_folder(path, split, stem_map)
        for split, folder in splits
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    ]
    # If there are tracks, a folder whose files have other names is a track with missing stems.
    if not any(track.stems for track in tracks):
        return []
    return [track for track in tracks if track.stems or track.problem or holds_audio(track.path)]


def _split_folders(source: Path) -> list[tuple[str, Path]]:
    splits = [
        (split, source / name)
        for split, names in _SPLIT_FOLDERS.items()
        for name in names
        if (source / name).is_dir() and not holds_audio(source / name)  # a song named "test"
    ]
    return splits or [("train", source)]


def _warn_of_others(source: Path, splits: Sequence[tuple[str, Path]]) -> None:
    named = [folder for _, folder in splits]
    if source in named:
        return
    others = [path.name for path in sorted(source.iterdir()) if path.is_dir() and path not in named]
    others = [name for name in others if not name.startswith(".")]
    if others:
        _logger.warning(
            "%s: beside %s, these folders are left out: %s",
            source,
            ", ".join(folder.name for folder in named),
            ", ".join(others),
        )


def _plain(name: str) -> str:
    """Normalise Unicode, because some systems decompose accented letters."""
    return unicodedata.normalize("NFC", name)


def _read_folder(folder: Path, split: str, stem_map: StemMap) -> SourceTrack:
    files: dict[str, list[Path]] = {}
    try:
        for path in audio_files(folder):
            files.setdefault(_plain(path.stem), []).append(path)
    except OSError as error:
        problem = f"its folder cannot be read: {error.strerror}"
        return SourceTrack(folder.name, split, folder, {}, None, problem)
    stems, problem = {}, ""
    for stem, names in stem_map.items():
        paths = [path for name in names for path in files.get(name, [])]
        if paths:
            stems[stem] = tuple(SourceFile(path) for path in paths)
        problem = name_twice(files.get(name, []) for name in names) or problem
    mixture = stems.pop(MIXTURE, (None,))[0]
    return SourceTrack(folder.name, split, folder, stems, mixture, problem)


def _check_names(source: Path, tracks: Sequence[SourceTrack], stem_map: StemMap) -> None:
    """Check that mapped names exist, and warn of files that belong to no stem."""
    mapped = {name for names in stem_map.values() for name in names}
    present = Counter(
        name
        for track in tracks
        if track.stems
        for name in {_plain(path.stem) for path in audio_files(track.path)}
    )
    wrong = sorted(mapped - present.keys() - OWN_NAMES.keys())
    if wrong:
        msg = (
            f"data set {source}: mapping: no track has a file named {wrong[0]!r} (without suffix); "
            f"there are {', '.join(sorted(present))}: name one of these with --map"
        )
        raise DatasetError(msg)
    unused = [f"{name} ({present[name]} tracks)" for name in sorted(present.keys() - mapped)]
    if unused:
        _logger.info("files that belong to no stem are left out: %s", ", ".join(unused))


def _is_musdb18_hq(source: Path, tracks: Sequence[SourceTrack]) -> bool:
    in_train = any(
        track.name in musdb18.VALIDATION_TRACKS and track.path.parent == source / "train"
        for track in tracks
    )
    return in_train and not any(track.split == "valid" for track in tracks)


def _nothing_found(source: Path, layout: Layout, stem_map: StemMap) -> str:
    names = ", ".join(name for stem in STEMS for name in stem_map[stem])
    places = {
        "musdb18": f"files train/<track>{musdb18.SUFFIX} and test/<track>{musdb18.SUFFIX}",
        "folders": (
            f"folders <split>/<track>/ or <track>/ with files named {names} and a suffix of "
            f"{' '.join(SUFFIXES)}"
        ),
    }
    places["musdb18-hq"] = places["folders"]
    places["numbered"] = "folders <split>/s1, <split>/s2, ... with files of equal names"
    places["auto"] = f"{places['folders']}, or {places['musdb18']}, or {places['numbered']}"
    advice = "check the path"
    if layout in ("auto", "folders", "musdb18-hq"):
        advice = (
            "where the files have other names, say so with --map, as in --map vocals=lead,backing"
        )
    return f"data set {source}: expected {places[layout]}; found none: {advice}"
