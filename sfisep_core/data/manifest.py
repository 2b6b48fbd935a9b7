"""The manifest of a prepared data set: which tracks it holds, and what is known of them."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from sfisep_core.data.layouts import SPLITS
from sfisep_core.data.records import RecordFile
from sfisep_core.errors import DatasetError

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 2

_LOCK_NAME = ".manifest.lock"


@dataclass(frozen=True)
class PreparedTrack:
    """One track of a prepared data set.

    Attributes:
        name: Name of the track; parts around an excluded range end in `.1`, `.2`, ...
        split: "train", "valid" or "test".
        sample_rate: Hz.
        channels: Channels of every stem.
        frames: Samples of every stem.
        stems: File of each stem, relative to the data set's folder.
        activity: Per stem the RMS of every whole second.
        origin: Digest of the source files it was made from; parts of one track share it.
        mixture: File of the mixture where one was given and the split is not for training; None:
            the mixture is the sum of the stems.
        encoding: Sample format of the files.
        sha256: Digest of every file: by stem, and of "mixture" where there is one.
    """

    name: str
    split: str
    sample_rate: int
    channels: int
    frames: int
    stems: dict[str, str]
    activity: dict[str, list[float]]
    origin: str = ""
    mixture: str | None = None
    encoding: str = "int16"
    sha256: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """All its files: those of the stems, and of "mixture" where there is one."""
        return self.stems if self.mixture is None else {**self.stems, "mixture": self.mixture}


def read_manifest(folder: Path) -> list[PreparedTrack]:
    """Read the manifest of a prepared data set.

    Returns:
        Its tracks, in order of split (train, valid, test) and name.

    Raises:
        DatasetError: There is none, or it cannot be read.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        msg = (
            f"data set {folder}: expected {MANIFEST_NAME}, found none: prepare the data first, "
            f"`sfisep prepare-data SOURCE --out {folder}`, or have a data set composed, `sfisep "
            f"prepare-data --demo {folder}`"
        )
        raise DatasetError(msg)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != MANIFEST_VERSION:
            msg = (
                f"{path}: expected version {MANIFEST_VERSION}, got {content['version']}: "
                "prepare the data again, into another folder"
            )
            raise DatasetError(msg)
        return [_checked(PreparedTrack(**track)) for track in content["tracks"]]
    except (KeyError, TypeError, ValueError, OSError) as error:
        msg = (
            f"{path}: not a manifest of a prepared data set ({error!r}): prepare the data again, "
            "into another folder"
        )
        raise DatasetError(msg) from error


def _checked(track: PreparedTrack) -> PreparedTrack:
    """Refuse what would fail far from here; the many numbers of `activity` are taken as they are.

    Raises:
        ValueError: A field of another type, or an unknown split.
    """
    kinds = {
        str: (track.name, track.split, track.origin, track.encoding),
        int: (track.sample_rate, track.channels, track.frames),
        dict: (track.stems, track.activity, track.sha256),
        str | None: (track.mixture,),
    }
    wrong = [v for kind, values in kinds.items() for v in values if not isinstance(v, kind)]
    wrong += [] if wrong else [file for file in track.files.values() if not isinstance(file, str)]
    if wrong or track.split not in SPLITS:
        msg = f"track {track.name!r}: unexpected {wrong[0] if wrong else track.split!r}"
        raise ValueError(msg)
    return track


def read_existing(folder: Path) -> list[PreparedTrack]:
    """Read the manifest as `read_manifest` does; without one there are no tracks."""
    return list(_read(folder).values())


_Key = tuple[str, str]  # split and name


def _parse(path: Path) -> dict[_Key, PreparedTrack]:
    return {(track.split, track.name): track for track in read_manifest(path.parent)}


def _line(_: _Key, track: PreparedTrack) -> str:
    return json.dumps(vars(track))


def _join(lines: list[str]) -> str:
    # One line for each track: to be read by eye.
    joined = ",\n".join(lines)
    return f'{{"version": {MANIFEST_VERSION}, "tracks": [\n{joined}\n]}}\n'


_file = RecordFile(_parse, line=_line, join=_join, order=lambda key: (SPLITS.index(key[0]), key[1]))


def _read(folder: Path) -> dict[_Key, PreparedTrack]:
    path = folder / MANIFEST_NAME
    if not os.path.lexists(path):
        return {}
    if not path.is_file():
        read_manifest(folder)  # which says so
    return _file.read(path)


def update_manifest(
    folder: Path, *, remove: Sequence[PreparedTrack] = (), add: Sequence[PreparedTrack] = ()
) -> None:
    """Change what the manifest says of some tracks, and nothing else.

    The manifest is read again under a lock, so that several runs may write into one folder. What
    is written depends on the tracks alone, not on the order in which they came.

    Args:
        folder: Data set, which exists.
        remove: Tracks to remove, by split and name.
        add: Tracks to add; one of the same split and name is replaced.

    Raises:
        DatasetError: The manifest cannot be read.
        OSError: It cannot be written.
    """
    if not remove and not add:
        return
    with locked(folder):
        tracks = _read(folder)
        for track in remove:
            tracks.pop((track.split, track.name), None)
        tracks.update({(track.split, track.name): track for track in add})
        _file.write(folder / MANIFEST_NAME, tracks)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs from changing what is known of the data set while the block runs."""
    with FileLock(folder / _LOCK_NAME):
        # Nobody else writes now: these are from runs that were killed.
        for left_over in folder.glob(".*.json.*.part"):
            left_over.unlink(missing_ok=True)
        yield
