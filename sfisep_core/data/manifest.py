"""The manifest of a prepared data set: its tracks and their properties."""

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfisep_core.data.layouts import SPLITS
from sfisep_core.data.records import RecordFile, journal_path
from sfisep_core.errors import DatasetError
from sfisep_core.foreign import Fields, path_below, read_json_object, shown
from sfisep_core.foundation.atomic import remove_left_overs
from sfisep_core.foundation.locks import locked

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
        activity: RMS of every whole second, by stem.
        origin: Digest of the source files it was made from; parts of one track share it.
        mixture: File of the mixture if one was given and the split is not for training; None: the
            mixture is the sum of the stems.
        encoding: Sample format of the files.
        sha256: Digest of every file: by stem, and of "mixture" if there is one.
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
        """All its files: those of the stems, and of "mixture" if there is one."""
        return self.stems if self.mixture is None else {**self.stems, "mixture": self.mixture}


def dataset_file(folder: Path, file: str) -> Path:
    """Return the path of a file of a prepared data set, which must be a regular file in it.

    Reading a device or named pipe might never end, and a link may lead to a file outside the data
    set.

    Args:
        folder: Data set; the path itself may contain links.
        file: Its name in the manifest, relative to the folder.

    Raises:
        DatasetError: The name or a link leads out of the folder, or it is not a regular file.
    """
    path = folder
    for name in file.split("/"):
        path = path_below(path, name)
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            msg = (
                f"{path}: expected a file of the data set, got a link to {path.resolve()}, out of "
                "it: put the file itself there, or prepare the data again"
            )
            raise DatasetError(msg)
    if path.exists() and not path.is_file():
        msg = (
            f"{path}: expected an ordinary file, got a folder, a device or a named pipe: prepare "
            "the data again"
        )
        raise DatasetError(msg)
    return path


def read_manifest(folder: Path) -> list[PreparedTrack]:
    """Read the manifest of a prepared data set.

    Returns:
        Its tracks, in order of split (train, valid, test) and name. They include tracks of a run
        that was killed or is still running.

    Raises:
        DatasetError: It is missing or cannot be read.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file() and (os.path.lexists(path) or not journal_path(path).is_file()):
        msg = (
            f"data set {folder}: expected {MANIFEST_NAME}, found none: prepare the data first, "
            f"`sfisep prepare-data SOURCE --out {folder}`, or have a data set composed, `sfisep "
            f"prepare-data --demo {folder}`"
        )
        raise DatasetError(msg)
    return list(_read_files(path, again=True).values())


def read_existing(folder: Path) -> list[PreparedTrack]:
    """Read the manifest as `read_manifest` does; without one there are no tracks."""
    path = folder / MANIFEST_NAME
    if not os.path.lexists(path) and not os.path.lexists(journal_path(path)):
        return []
    if os.path.lexists(path) and not path.is_file():
        read_manifest(folder)  # which reports a missing one
    return list(_read_files(path).values())


_Key = tuple[str, str]  # split and name


def _read_files(path: Path, *, again: bool = False) -> dict[_Key, PreparedTrack]:
    try:
        return _file.read(path, again=again)
    except (ValueError, OSError) as error:
        msg = (
            f"{path}: not a manifest of a prepared data set ({error}): prepare the data again, "
            "into another folder"
        )
        raise DatasetError(msg) from error


def _parse(path: Path) -> dict[_Key, PreparedTrack]:
    content = read_json_object(path)
    version = content.get("version")
    if version is None:
        msg = f"version: expected {MANIFEST_VERSION}, got nothing"
        raise ValueError(msg)
    if version != MANIFEST_VERSION:
        msg = (
            f"{path}: expected version {MANIFEST_VERSION}, got {shown(version)}: "
            "prepare the data again, into another folder"
        )
        raise DatasetError(msg)
    tracks = content.get("tracks")
    if not isinstance(tracks, list):
        msg = f"tracks: expected a list, got {shown(tracks)}"
        raise ValueError(msg)
    parsed = [_track(values, f"track {number}") for number, values in enumerate(tracks, start=1)]
    return {(track.split, track.name): track for track in parsed}


def _track(values: object, where: str) -> PreparedTrack:
    """Build a track from JSON values, and check them.

    Of the many numbers of `activity` only the types are looked at.

    Raises:
        ValueError: A field is missing, unknown, of another type or out of range.
    """
    fields = Fields(values, where)
    fields.check_names(_FIELDS)
    stems: dict[str, str] = fields.table("stems", str)
    activity: dict[str, list[float]] = fields.table("activity", list)
    track = PreparedTrack(
        name=fields.text("name"),
        split=fields.text("split"),
        sample_rate=fields.count("sample_rate", least=1, most=_MAX_SAMPLE_RATE),
        channels=fields.count("channels", least=1, most=_MAX_CHANNELS),
        frames=fields.count("frames", least=1),
        stems=stems,
        activity=activity,
        origin=fields.text("origin", default=""),
        mixture=fields.text("mixture", default="") or None,
        encoding=fields.text("encoding", default="int16"),
        sha256=fields.table("sha256", str, default={}),
    )
    if track.split not in SPLITS:
        fields.refuse("split", f"one of {', '.join(SPLITS)}", track.split)
    if any(not {float, int}.issuperset(map(type, values)) for values in activity.values()):
        fields.refuse("activity", "numbers", activity)
    if not stems or stems.keys() != activity.keys():
        fields.refuse("activity", "values of every stem", list(activity))
    try:
        # Names are used as file names: of scores, estimates and prepared tracks.
        path_below(Path(), track.name)
        path_below(Path(), *stems)
        for file in track.files.values():
            path_below(Path(), *file.split("/"))
    except DatasetError as error:
        msg = f"{where}: {error}"
        raise ValueError(msg) from error
    return track


_FIELDS = frozenset(field.name for field in dataclasses.fields(PreparedTrack))
_MAX_SAMPLE_RATE = 10**7  # Hz
_MAX_CHANNELS = 1024


def _line(_: _Key, track: PreparedTrack) -> str:
    return json.dumps(vars(track))


def _join(lines: list[str]) -> str:
    # One line per track, for readability.
    joined = ",\n".join(lines)
    return f'{{"version": {MANIFEST_VERSION}, "tracks": [\n{joined}\n]}}\n'


def _decode(key: Any, values: Any) -> tuple[_Key, PreparedTrack | None]:
    split, name = key
    return (str(split), str(name)), None if values is None else _track(values, f"track {name}")


_file = RecordFile(
    _parse,
    line=_line,
    join=_join,
    order=lambda key: (SPLITS.index(key[0]), key[1]),
    encode=vars,
    decode=_decode,
)


def update_manifest(
    folder: Path, *, remove: Sequence[PreparedTrack] = (), add: Sequence[PreparedTrack] = ()
) -> None:
    """Change the entries of some tracks in the manifest.

    The changes are appended to its journal under a lock, so that several runs may write to one
    folder. `finish_manifest` writes the manifest itself.

    Args:
        folder: Data set, which exists.
        remove: Tracks to remove, by split and name.
        add: Tracks to add; one of the same split and name is replaced.

    Raises:
        OSError: It cannot be written.
    """
    changes: dict[_Key, PreparedTrack | None] = {(t.split, t.name): None for t in remove}
    changes.update({(track.split, track.name): track for track in add})
    if changes:
        with manifest_locked(folder):
            _file.append(folder / MANIFEST_NAME, changes)


def finish_manifest(folder: Path) -> None:
    """Write the manifest with all changes of its journal, if there is one.

    The content depends only on the tracks, not on the order of the changes.

    Args:
        folder: Data set, which exists.

    Raises:
        DatasetError: It cannot be read or written; the journal is then kept.
    """
    path = folder / MANIFEST_NAME
    if not journal_path(path).is_file():
        return
    try:
        with manifest_locked(folder):
            _file.write(path, _read_files(path))
    except OSError as error:
        msg = (
            f"{path}: cannot be written: {error.strerror}: free some space, or mend the folder's "
            "permissions, and run the same command again; what is prepared is not done again"
        )
        raise DatasetError(msg) from error


@contextmanager
def manifest_locked(folder: Path) -> Iterator[None]:
    """Lock the records of the data set against other runs within the block."""
    with locked(folder / _LOCK_NAME):
        remove_left_overs(folder, shared=False)
        yield
