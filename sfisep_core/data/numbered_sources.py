"""Find mixtures of unnamed sources: folders s1, s2, ... with files of equal names.

WSJ0-2mix and LibriMix have this layout, `[wav8k/min/]{tr,cv,tt}/{mix,s1,s2}/NAME.wav`. The sum of
the sources is the mixture, so that the given ones (`mix`, `mix_both`, ...) are not read.
"""

import re
from pathlib import Path

from sfisep_core.data.source_tracks import (
    SPLITS,
    SourceFile,
    SourceTrack,
    audio_files,
    name_twice,
)
from sfisep_core.errors import DatasetError

# Folders of a split; LibriMix has several for training.
_SPLITS = {
    "train": re.compile(r"tr|train(-.+)?"),
    "valid": re.compile(r"cv|dev|valid|validation|val"),
    "test": re.compile(r"tt|test"),
}
_SOURCE = re.compile(r"s[1-9]\d*")
# Maximum number of folders above those of the splits: Libri2Mix/wav8k/min/train-100.
_LEVELS = 3


def find_numbered(source: Path) -> list[SourceTrack]:
    """Find mixtures of numbered sources.

    Args:
        source: Folder of the data set, or one with `s1`, `s2`, ... itself, which then count as
            training material. Up to three folders may be above the splits, such as `wav8k/min`.

    Returns:
        The mixtures in order of split and name, including incomplete ones; empty for other layouts.

    Raises:
        DatasetError: Several folders contain splits, numbers are not consecutive, or the splits
            have different sources.
        OSError: A folder cannot be read.
    """
    splits_of = next(filter(None, (_find_at(source, level) for level in range(_LEVELS + 1))), {})
    if not splits_of:
        return []
    if len(splits_of) > 1:
        places = ", ".join(str(root.relative_to(source)) for root in splits_of)
        msg = (
            f"data set {source}: expected one set of mixtures, found {places}: prepare one of these"
        )
        raise DatasetError(msg)
    (splits,) = splits_of.values()
    names_of = {folder: _source_names(folder) for _, folder in splits}
    sources = max(names_of.values(), key=len)
    expected = tuple(f"s{number + 1}" for number in range(len(sources)))
    for folder, names in names_of.items():
        if names != expected:
            msg = (
                f"data set {source}: expected folders {', '.join(expected)} in every split, found "
                f"{', '.join(names)} in {folder}"
            )
            raise DatasetError(msg)
    tracks = [track for split, folder in splits for track in _read_split(split, folder, sources)]
    return sorted(tracks, key=lambda track: (SPLITS.index(track.split), track.name))


def _find_at(source: Path, level: int) -> dict[Path, list[tuple[str, Path]]]:
    """Return the folders `level` levels below that contain splits, with their splits."""
    if level == 0 and len(_source_names(source)) > 1:
        return {source: [("train", source)]}
    roots = [source]
    for _ in range(level):
        roots = [path for root in roots for path in _folders(root)]
    splits_of = {root: _split_folders(root) for root in roots}
    return {
        root: splits
        for root, splits in splits_of.items()
        if any(len(_source_names(folder)) > 1 for _, folder in splits)
    }


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    return [
        (split, folder)
        for folder in _folders(root)
        for split, pattern in _SPLITS.items()
        if pattern.fullmatch(folder.name) and _source_names(folder)
    ]


def _folders(folder: Path) -> list[Path]:
    try:
        return [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    except OSError:  # perhaps another layout, whose reader reports the error
        return []


def _source_names(folder: Path) -> tuple[str, ...]:
    names = [path.name for path in _folders(folder) if _SOURCE.fullmatch(path.name)]
    return tuple(sorted(names, key=lambda name: int(name[1:])))


def _read_split(split: str, folder: Path, sources: tuple[str, ...]) -> list[SourceTrack]:
    files_of: dict[str, dict[str, list[Path]]] = {}
    for source in sources:
        for path in audio_files(folder / source):
            files_of.setdefault(path.stem, {}).setdefault(source, []).append(path)
    return [
        SourceTrack(
            name=name,
            split=split,
            path=next(iter(files.values()))[0],
            stems={source: tuple(map(SourceFile, paths)) for source, paths in files.items()},
            problem=name_twice(files.values()),
            expected=sources,
        )
        for name, files in files_of.items()
    ]
