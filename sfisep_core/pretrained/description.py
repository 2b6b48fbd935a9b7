"""The description in a model file, read without its weights and without PyTorch."""

import json
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfisep_core.errors import CheckpointError
from sfisep_core.foundation.digests import file_sha256
from sfisep_core.pretrained.file_kinds import check_kind

FORMAT_VERSION = 2
"""2: weights of integers with scales, and parts in other files."""
METADATA_KEY = "sfisep"

_LONGEST_HEADER = 100_000_000  # bytes; the format allows no more
_MOST_PARTS = 64
# A plain name: a part is always in the folder of the file that refers to it.
_PART_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Part:
    """Weights of a model that are in another model file, in the same folder.

    Attributes:
        prefix: Prefix of the names of these weights in the whole model.
        file: Name of the file.
        sha256: Digest of the file, in hexadecimal digits.

    Raises:
        ValueError: The name is not a plain name of a safetensors file, or the digest is invalid.
    """

    prefix: str
    file: str
    sha256: str

    def __post_init__(self) -> None:
        """Check name and digest."""
        if not _PART_NAME.fullmatch(self.file) or not _SHA256.fullmatch(self.sha256):
            msg = f"part {self.file!r} with SHA-256 {self.sha256!r}: expected a name and a digest"
            raise ValueError(msg)


@dataclass(frozen=True)
class ModelDescription:
    """The description in a model file.

    Attributes:
        family: Name of the family.
        config: Settings from which the model is built.
        training: How it was trained: data, steps, scores; free text and numbers.
        licence: Licence of the weights.
        parts: Weights in other files.
    """

    family: str
    config: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    parts: tuple[Part, ...] = ()


def read_description(path: Path) -> ModelDescription:
    """Read the description in a model file, without its weights.

    Args:
        path: A native model file.

    Returns:
        The description.

    Raises:
        CheckpointError: Not a native model file, or one of a later format.
    """
    check_kind(path, "safetensors")
    try:
        metadata = _read_metadata(path)
    except (OSError, ValueError, RecursionError, struct.error) as error:
        msg = (
            f"model file {path}: expected a safetensors file, cannot be read as one: {error}: "
            "fetch it again"
        )
        raise CheckpointError(msg) from error
    try:
        description = json.loads(metadata[METADATA_KEY])
        version = int(description["format_version"])
        if version > FORMAT_VERSION:
            msg = (
                f"model file {path}: format version {version}, this program reads up to "
                f"{FORMAT_VERSION}: install a newer sfisep"
            )
            raise CheckpointError(msg)
        return ModelDescription(
            family=str(description["family"]),
            config=dict(description["config"]),
            training=dict(description.get("training", {})),
            licence=str(description.get("licence", "")),
            parts=tuple(
                Part(str(part["prefix"]), str(part["file"]), str(part["sha256"]))
                for part in list(description.get("parts", []))[:_MOST_PARTS]
            ),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        msg = (
            f"model file {path}: a safetensors file, but without sfisep's description of the "
            f"model ({error!r}): expected a file written by `sfisep train` or "
            "`sfisep models convert`"
        )
        raise CheckpointError(msg) from error


def check_parts(path: Path, description: ModelDescription) -> None:
    """Compare the parts of a model with the digests in the model's file.

    Args:
        path: The model's file.
        description: Its description.

    Raises:
        CheckpointError: A part is missing, or has another digest.
    """
    for part in description.parts:
        file = path.parent / part.file
        try:
            digest = file_sha256(file)
        except OSError as error:
            msg = (
                f"model file {path}: its weights in {file} cannot be read: {error.strerror}: put "
                "both files into one folder, or join the models into one file "
                "(`sfisep models join`); if the model came with the package, install sfisep anew"
            )
            raise CheckpointError(msg) from error
        if digest != part.sha256:
            msg = (
                f"model file {path}: its weights in {file}: expected sha256 {part.sha256}, found "
                f"{digest}: put the file there that it was made with; if the model came with the "
                "package, install sfisep anew"
            )
            raise CheckpointError(msg)


def _read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata in the header.

    The library's own reader loads NumPy or PyTorch, which takes longer than all other checks of a
    command's options.

    Source: the format is 8 bytes with the length of the header, little-endian, then a header in
    JSON; https://huggingface.co/docs/safetensors/index#format.

    Raises:
        OSError: The file cannot be read.
        ValueError: It has no such header.
        struct.error: It is shorter than 8 bytes.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        text = file.read(length) if length <= _LONGEST_HEADER else b""
    if len(text) < length:
        msg = f"its header would be {length} bytes long"
        raise ValueError(msg)
    header = json.loads(text)
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        msg = "its header is no table"
        raise ValueError(msg)
    return metadata
