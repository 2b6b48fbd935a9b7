"""The manifest of a prepared data set: which tracks it holds, and what is known of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from sfisep_core.atomic import written_whole
from sfisep_core.config_values import build_config
from sfisep_core.errors import ConfigError, DatasetError

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 1

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
        origin: Digest of the track folder it was made from; parts of one track share it.
    """

    name: str
    split: str
    sample_rate: int
    channels: int
    frames: int
    stems: dict[str, str]
    activity: dict[str, list[float]]
    origin: str = ""


def read_manifest(folder: Path) -> list[PreparedTrack]:
    """Read the manifest of a prepared data set.

    Raises:
        DatasetError: There is none, or it cannot be read.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        msg = (
            f"data set {folder}: expected {MANIFEST_NAME}, found none: prepare the data first, "
            f"`sfisep prepare-data SOURCE --out {folder}`"
        )
        raise DatasetError(msg)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != MANIFEST_VERSION:
            msg = (
                f"{path}: expected version {MANIFEST_VERSION}, got {content['version']}: "
                "prepare the data again"
            )
            raise DatasetError(msg)
        return [build_config(PreparedTrack, track, where="track") for track in content["tracks"]]
    except (KeyError, TypeError, ValueError, OSError, ConfigError) as error:
        msg = f"{path}: not a manifest of a prepared data set ({error!r}): prepare the data again"
        raise DatasetError(msg) from error


def read_existing(folder: Path) -> list[PreparedTrack]:
    """Read the manifest as `read_manifest` does; without one there are no tracks."""
    return read_manifest(folder) if (folder / MANIFEST_NAME).exists() else []


def update_manifest(
    folder: Path, *, remove: Sequence[PreparedTrack] = (), add: Sequence[PreparedTrack] = ()
) -> None:
    """Change what the manifest says of some tracks, and nothing else.

    The manifest is read again under a lock, so that several runs may write into one folder.

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
    with FileLock(folder / _LOCK_NAME):
        tracks = {(track.split, track.name): track for track in read_existing(folder)}
        for track in remove:
            tracks.pop((track.split, track.name), None)
        tracks.update({(track.split, track.name): track for track in add})
        content = {
            "version": MANIFEST_VERSION,
            "tracks": [asdict(track) for track in tracks.values()],
        }
        write_json(folder / MANIFEST_NAME, content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file that has its name only when it is complete.

    Raises:
        OSError: It cannot be written.
    """
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
