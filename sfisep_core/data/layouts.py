"""Find the tracks of a data set in its folders."""

import hashlib
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sfisep_core.errors import ConfigError, DatasetError

STEMS = ("vocals", "drums", "bass", "other")
SPLITS = ("train", "valid", "test")

# Share of the training tracks that are held out where a data set has none for validation.
_HELD_OUT_PERCENT = 10

_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
_EXCLUSION = re.compile(r"(?P<track>.+):(?P<start>\d+(?:\.\d+)?)-(?P<end>\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class TrackFolder:
    """A folder that holds the stems of one track.

    Attributes:
        name: Name of the folder.
        split: "train", "valid" or "test".
        stems: Stem files that are there, by stem.
    """

    name: str
    split: str
    stems: dict[str, Path]

    @property
    def missing(self) -> list[str]:
        """Names of the stems that have no file."""
        return [stem for stem in STEMS if stem not in self.stems]


@dataclass(frozen=True)
class Exclusion:
    """A time range, in seconds, that is to be left out of a track."""

    track: str
    start: float
    end: float


def find_tracks(source: Path) -> list[TrackFolder]:
    """Find tracks as `<split>/<track>/<stem>.*` (MUSDB18-HQ and alike) or `<track>/<stem>.*`.

    Args:
        source: Folder of the data set. Tracks outside a split folder count as training material.

    Returns:
        Track folders in order of split and name; any folder with at least one stem file counts.

    Raises:
        DatasetError: The folder is missing or holds no stem files.
    """
    if not source.is_dir():
        found_instead = "a file" if source.exists() else "nothing"
        msg = f"data set {source}: expected a folder, found {found_instead}"
        raise DatasetError(msg)
    found = []
    for split in SPLITS:
        if (source / split).is_dir():
            found += _tracks_in(source / split, split)
    if not found:
        found = _tracks_in(source, "train")
    if not found:
        msg = (
            f"data set {source}: expected folders <split>/<track>/ or <track>/ with files named "
            f"{', '.join(STEMS)} and a suffix of {' '.join(_SUFFIXES)}; found none"
        )
        raise DatasetError(msg)
    return found


def hold_out_tracks(
    folders: Sequence[TrackFolder], *, cut: Collection[str] = ()
) -> list[TrackFolder]:
    """Move some training tracks to the split "valid", unless there are tracks for validation.

    A tenth is held out: those whose name has a SHA-256 digest below 10 modulo 100. The choice
    hence depends on the name alone, not on the other tracks. Where no digest is, and there are at
    least two tracks, the one with the smallest (modulo 100) is held out; so it is where every
    digest is.

    Args:
        folders: Tracks as `find_tracks` gives them. One with missing stems is not held out, and
            does not count as a track to validate on.
        cut: Names of tracks of which a part is left out; they are not held out either.

    Returns:
        The same tracks, in order of split and otherwise as they were.
    """
    training = [f for f in folders if f.split == "train" and not f.missing]
    usable = [f for f in training if f.name not in cut]
    validates = any(f.split == "valid" and not f.missing for f in folders)
    if len(training) < 2 or not usable or validates:
        return list(folders)
    held_out = {folder.name for folder in usable if _draw(folder.name) < _HELD_OUT_PERCENT}
    if len(held_out) in (0, len(training)):
        held_out = {min(usable, key=lambda folder: _draw(folder.name)).name}
    moved = [
        replace(f, split="valid") if f.split == "train" and f.name in held_out else f
        for f in folders
    ]
    return sorted(moved, key=lambda folder: SPLITS.index(folder.split))


def _draw(name: str) -> int:
    """Give a number of 0 to 99 that depends on the name alone."""
    return int(hashlib.sha256(os.fsencode(name)).hexdigest(), 16) % 100


def _tracks_in(folder: Path, split: str) -> list[TrackFolder]:
    tracks = []
    for track in sorted(path for path in folder.iterdir() if path.is_dir()):
        stems = {
            path.stem: path
            for path in sorted(track.iterdir())
            if path.stem in STEMS and path.suffix.lower() in _SUFFIXES
        }
        if stems:
            tracks.append(TrackFolder(track.name, split, stems))
    return tracks


def parse_exclusions(texts: Sequence[str]) -> list[Exclusion]:
    """Read exclusions written as `TRACK:START-END`, in seconds.

    Raises:
        ConfigError: A text of another form, or an empty range.
    """
    exclusions = []
    for text in texts:
        match = _EXCLUSION.fullmatch(text)
        if match is None or float(match["start"]) >= float(match["end"]):
            msg = f"exclusion {text!r}: expected TRACK:START-END in seconds, e.g. song:28-92"
            raise ConfigError(msg)
        exclusions.append(Exclusion(match["track"], float(match["start"]), float(match["end"])))
    return exclusions
