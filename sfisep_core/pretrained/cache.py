"""The user's folder of downloaded models.

Every model has two files: the weights, and a small record that is written last. Weights without a
record are ignored, and weights that differ from it are not loaded.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs

from sfisep_core.errors import CheckpointError
from sfisep_core.foreign import Fields, read_json_object
from sfisep_core.foundation.atomic import put_in_place, written_whole
from sfisep_core.foundation.digests import file_sha256
from sfisep_core.foundation.locks import LockHeldError, locked_while_busy
from sfisep_core.pretrained.transfer import public_address

VARIABLE = "SFISEP_CACHE"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """Properties of a cached model.

    Attributes:
        name: Name or address by which the user requests it.
        source: Original file: its address, or repository and path.
        revision: Commit of the repository; None for an address.
        source_sha256: Digest of the original file.
        sha256: Digest of the cached safetensors file.
        size: Bytes of the cached file.
    """

    name: str
    source: str
    revision: str | None
    source_sha256: str
    sha256: str
    size: int


_FIELDS = frozenset(field.name for field in dataclasses.fields(Record))


@dataclass(frozen=True)
class CachedModel:
    """Paths of the files of one model, which need not exist.

    Attributes:
        name: Name or address by which the user requests it.
        path: The safetensors file.
    """

    name: str
    path: Path

    @property
    def record_path(self) -> Path:
        """The record, which is written after the weights."""
        return self.path.with_suffix(".json")

    def record(self) -> Record | None:
        """Read the record; None if it is missing or invalid."""
        try:
            fields = Fields(read_json_object(self.record_path), "record")
            fields.check_names(_FIELDS)
            return Record(
                name=fields.text("name"),
                source=fields.text("source"),
                revision=fields.text("revision", default="") or None,
                source_sha256=fields.text("source_sha256"),
                sha256=fields.text("sha256"),
                size=fields.count("size", least=0),
            )
        except (OSError, ValueError):
            return None

    def looks_sound(self) -> bool:
        """Tell whether the file has the recorded size, without reading it."""
        record = self.record()
        return record is not None and _size(self.path) == record.size

    def check(self) -> None:
        """Compare the file with its record: about 0.1 s for 70 MB.

        Raises:
            CheckpointError: The file is missing, or differs from the download.
        """
        record = self.record()
        if record is None:
            problem = "found no record of what was downloaded"
        elif (size := _size(self.path)) != record.size:
            is_there = "found no file" if size is None else f"found {size}"
            problem = f"expected {record.size} bytes, {is_there}"
        else:
            try:
                digest = file_sha256(self.path)
            except OSError as error:
                digest = f"nothing: {error.strerror}"
            if digest == record.sha256:
                return
            problem = f"expected sha256 {record.sha256}, found {digest}"
        msg = (
            f"model {self.name}: its file in the cache, {self.path}, is damaged: {problem}: run "
            f"`sfisep models download {self.name}` to replace it"
        )
        raise CheckpointError(msg)


def cache_folder() -> Path:
    """Return the folder of downloaded models; it need not exist."""
    root = os.environ.get(VARIABLE)
    return Path(root or platformdirs.user_cache_dir("sfisep")).absolute() / "models"


def cached_model(name: str, key: str) -> CachedModel:
    """Return the paths of a model.

    Args:
        name: Name or address by which the user requests it.
        key: Its file name, without suffix.
    """
    return CachedModel(name, cache_folder() / f"{key}.safetensors")


def cached_models() -> list[CachedModel]:
    """List the models in the cache that have a record, sorted by the names of their files."""
    models = []
    for path in sorted(cache_folder().glob("*.json"), key=lambda path: path.stem):
        model = CachedModel("", path.with_suffix(".safetensors"))
        record = model.record()
        if record is not None:
            # Earlier versions stored complete addresses.
            name = public_address(record.name) if "://" in record.name else record.name
            models.append(CachedModel(name, model.path))
    return models


@contextmanager
def locked(model: CachedModel) -> Iterator[Path]:
    """Lock the model's files against other processes, and yield a folder for incomplete files.

    Args:
        model: The model to fetch or to remove.

    Yields:
        An empty folder next to the model's files; it is removed afterwards.

    Raises:
        CheckpointError: The cache cannot be written, or another process holds the lock and makes no
            progress.
    """
    folder = model.path.parent
    prefix = f".{model.path.stem}."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked_while_busy(
            folder / f"{prefix}lock",
            holder=folder / f"{prefix}holder",
            written=lambda: _bytes_of_parts(folder, prefix),
            purpose=f"fetches {model.name}",
        ):
            for left in folder.glob(f"{prefix}*.part"):  # left by a killed process
                shutil.rmtree(left, ignore_errors=True)
            with TemporaryDirectory(prefix=prefix, suffix=".part", dir=folder) as temporary:
                yield Path(temporary)
    except LockHeldError as error:
        msg = f"model {model.name}: {error}"
        raise CheckpointError(msg) from error
    except OSError as error:
        msg = (
            f"model {model.name}: the cache {folder} cannot be written: {error}: make room or "
            f"give access there, or set {VARIABLE} to another folder"
        )
        raise CheckpointError(msg) from error


def _bytes_of_parts(folder: Path, prefix: str) -> int:
    """Count the bytes that the holder of a lock has written so far."""
    total = 0
    with contextlib.suppress(OSError):  # files may be removed in the meantime
        for part in folder.glob(f"{prefix}*.part"):
            total += sum(_size(file) or 0 for file in part.rglob("*"))
    return total


def keep(
    model: CachedModel, weights: Path, *, source: str, revision: str | None, source_sha256: str
) -> None:
    """Move weights into the cache; call this while holding the model's lock.

    Raises:
        OSError: The files cannot be written.
    """
    record = Record(
        name=model.name,
        source=source,
        revision=revision,
        source_sha256=source_sha256,
        sha256=file_sha256(weights),
        size=weights.stat().st_size,
    )
    # This order ensures that weights never have another file's record.
    model.record_path.unlink(missing_ok=True)
    put_in_place(weights, model.path)
    with written_whole(model.record_path) as temporary:
        temporary.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def remove(model: CachedModel) -> int:
    """Remove a model from the cache.

    Returns:
        Bytes freed.

    Raises:
        CheckpointError: It is not in the cache, or cannot be removed.
    """
    if not (model.record_path.exists() or model.path.exists()):
        msg = f"model {model.name}: is not downloaded: there is nothing to remove"
        raise CheckpointError(msg)
    with locked(model):
        freed = sum(_size(path) or 0 for path in (model.record_path, model.path))
        model.record_path.unlink(missing_ok=True)
        model.path.unlink(missing_ok=True)
    return freed


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
