"""From the name or path a user gives to a loaded model."""

import os
from pathlib import Path

from sfisep_core.models.contract import SeparationModel
from sfisep_core.pretrained.address import is_address
from sfisep_core.pretrained.fetch import fetch_model
from sfisep_core.pretrained.file_kinds import model_file_kind
from sfisep_core.pretrained.native import load_model
from sfisep_core.pretrained.official import load_official_model
from sfisep_core.pretrained.registry import BUNDLED, RELEASED, no_such_model
from sfisep_core.pretrained.transfer import Progress


def resolve_model(name: str | Path, *, progress: Progress | None = None) -> SeparationModel:
    """Load a model by name, path or address; one that is not there yet is downloaded.

    Args:
        name: A bundled or released model's name (`sfisep models list` shows them), a model file, a
            checkpoint of the published SFI Conv-TasNet program, or the address (https://...) of
            either kind of file.
        progress: Of a download: called with bytes done, bytes in all, and a label; None logs.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        CheckpointError: Unknown name, missing file, a file that is no model or is damaged, or a
            failed download.
    """
    path = model_path(str(name), progress=progress)
    return load_official_model(path) if model_file_kind(path) == "torch" else load_model(path)


def model_path(name: str, *, progress: Progress | None = None) -> Path:
    """Give the file of a model; one that is not there yet is downloaded.

    Args:
        name: A bundled model's name, a native model file (.safetensors), a checkpoint of the
            published SFI Conv-TasNet program, a released model's name, or an address
            (https://...) of either kind of file.
        progress: Of a download: called with bytes done, bytes in all, and a label; None logs.

    Raises:
        CheckpointError: Unknown name, missing file, a damaged download, or a failed one.
    """
    if name in BUNDLED:
        return BUNDLED[name]
    if os.path.isfile(name):  # where pathlib raises on a name too long, it answers no
        return Path(name)
    if name in RELEASED or is_address(name):
        return fetch_model(name, progress=progress)
    raise no_such_model(name)
