"""The tensors of a model file, including those in other files in its folder."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sfisep_core.errors import CheckpointError
from sfisep_core.foundation.atomic import written_whole
from sfisep_core.foundation.exit_signals import raise_received
from sfisep_core.foundation.interrupts import signals_deferred
from sfisep_core.pretrained.description import (
    FORMAT_VERSION,
    METADATA_KEY,
    ModelDescription,
    check_parts,
    read_description,
)
from sfisep_core.pretrained.quantization import SCALE_SUFFIX


def write_tensors(path: Path, tensors: dict[str, Tensor], description: ModelDescription) -> None:
    """Write a model file atomically.

    Args:
        path: File to write.
        tensors: Tensors by name, in their stored form.
        description: Description of the model.

    Raises:
        CheckpointError: The file cannot be written; an existing file is kept.
    """
    # Older versions, without scales and parts, then report that a newer one is needed.
    is_plain = not description.parts and not any(name.endswith(SCALE_SUFFIX) for name in tensors)
    said = {"format_version": 1 if is_plain else FORMAT_VERSION, **asdict(description)}
    if not description.parts:
        del said["parts"]
    # Sorted: the same model gives the same bytes when settings have moved in the code.
    text = json.dumps(said, sort_keys=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            # safetensors' `save_file` creates files that only their owner can read
            temporary.write_bytes(save(tensors, {METADATA_KEY: text}))
    except (OSError, SafetensorError) as error:
        msg = f"model file {path}: cannot be written: {error}: choose another place"
        raise CheckpointError(msg) from error


def read_tensors(path: Path, description: ModelDescription) -> dict[str, Tensor]:
    """Read all tensors of a model.

    Args:
        path: Its file.
        description: Description of the model.

    Returns:
        Tensors by their names in the model, in their stored form.

    Raises:
        CheckpointError: A file cannot be read, or a part is missing, has another digest, or has
            parts itself.
    """
    check_parts(path, description)
    tensors = _read_file(path)
    for part in description.parts:
        file = path.parent / part.file
        if read_description(file).parts:
            msg = f"model file {path}: its part {part.file} has parts itself: join it into one file"
            raise CheckpointError(msg)
        for name, tensor in _read_file(file).items():
            tensors[part.prefix + name] = tensor
    return tensors


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        # What a signal raises in Python code that the library calls becomes an error of its own.
        with signals_deferred(), safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise_received()
        msg = (
            f"model file {path}: expected a safetensors file, cannot be read as one, perhaps "
            f"because it is cut ({path.stat().st_size} bytes): {error}: fetch it again"
        )
        raise CheckpointError(msg) from error
