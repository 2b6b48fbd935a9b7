"""Record of the data of a run, checked when the run is resumed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.manifest import MANIFEST_NAME
from sfisep_core.errors import CheckpointError, ConfigError, DatasetError
from sfisep_core.foreign import Fields
from sfisep_core.wording import counted


@dataclass(frozen=True)
class SplitData:
    """Summary of one split of a data set.

    Attributes:
        tracks: Number of usable tracks, which are long enough.
        seconds: Their total length.
        sha256: Digest of their entries in the manifest: names, order, lengths, rates, and digests
            of files.
    """

    tracks: int
    seconds: float
    sha256: str


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes:
        folder: The prepared data set, as an absolute path.
        splits: "train" and "valid".
    """

    folder: Path
    splits: Mapping[str, SplitData]

    @classmethod
    def of(cls, **datasets: StemDataset) -> "RunData":
        """Describe the splits of a data set by name."""
        folder = next(iter(datasets.values())).folder.resolve()
        return cls(folder, {name: _describe(dataset) for name, dataset in datasets.items()})

    @classmethod
    def from_checkpoint(cls, stored: object, where: Path) -> "RunData | None":
        """Read the record of a checkpoint.

        Args:
            stored: Its record; None in checkpoints of older versions.
            where: The checkpoint.

        Raises:
            CheckpointError: The record is damaged.
        """
        if stored is None:
            return None
        try:
            fields = Fields(stored, "data")
            splits = {name: _read_split(it) for name, it in fields.table("splits", dict).items()}
            return cls(Path(fields.text("folder")), splits)
        except (LookupError, TypeError, ValueError) as error:
            msg = f"checkpoint {where}: its record of the data is damaged: take the one before"
            raise CheckpointError(msg) from error

    def record(self) -> dict[str, Any]:
        """Return the record as plain values, for the checkpoint and the log."""
        return {"folder": str(self.folder), **self._splits()}

    def public_record(self) -> dict[str, Any]:
        """Return the record for model files, which are published: without the folder's path."""
        return {"name": self.folder.name, **self._splits()}

    def _splits(self) -> dict[str, Any]:
        return {"splits": {name: asdict(split) for name, split in self.splits.items()}}

    def differences(self, other: "RunData") -> list[str]:
        """Return the names of the splits that differ."""
        return [name for name in self.splits if self.splits[name] != other.splits.get(name)]

    def __str__(self) -> str:
        """Return the folder and a summary of its splits."""
        parts = (f"{name} {counted(s.tracks, 'track')}" for name, s in self.splits.items())
        return f"{self.folder} ({', '.join(parts)})"


def find_folder(named: Path | None, stored: RunData | None, out: Path) -> Path:
    """Return the data set folder of a resumed run.

    Args:
        named: The data set that the user names, if any.
        stored: The data of the run so far, if known.
        out: Folder of the run.

    Raises:
        ConfigError: None is named, and the run has no record.
        DatasetError: The run's own data no longer exist.
    """
    if named is not None:
        return named
    if stored is None:
        msg = f"run folder {out}: does not tell which data it was trained with: name them by --data"
        raise ConfigError(msg)
    if not (stored.folder / MANIFEST_NAME).is_file():
        msg = (
            f"run folder {out}: was trained with {stored}, and there is no {MANIFEST_NAME} any "
            "more: name by --data where these data are now"
        )
        raise DatasetError(msg)
    return stored.folder


def check_same_data(stored: RunData, current: RunData, out: Path) -> None:
    """Check that a run is resumed with the same data.

    Raises:
        ConfigError: A split has changed.
    """
    changed = stored.differences(current)
    if changed:
        msg = (
            f"run folder {out}: was trained with {stored}, and {current} differs from it in "
            f"{' and '.join(changed)}: name the run's own data by --data, or pass --change-data to "
            "go on with others"
        )
        raise ConfigError(msg)


def _read_split(stored: Mapping[str, Any]) -> SplitData:
    fields, seconds = Fields(stored, "split"), stored["seconds"]
    if not isinstance(seconds, int | float):
        fields.refuse("seconds", "a number", seconds)
    return SplitData(fields.count("tracks", least=0), seconds, fields.text("sha256"))


def _describe(dataset: StemDataset) -> SplitData:
    facts = [
        [t.name, t.sample_rate, t.channels, t.frames, sorted(t.sha256.items())]
        for t in dataset.tracks
    ]
    text = json.dumps([dataset.stems, facts])
    seconds = sum(track.frames / track.sample_rate for track in dataset.tracks)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return SplitData(len(dataset.tracks), round(seconds, 3), digest)
