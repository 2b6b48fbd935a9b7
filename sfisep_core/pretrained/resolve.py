"""From the name or path a user gives to a loaded model."""

import os
import zipfile
from pathlib import Path

from sfisep_core.errors import CheckpointError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.pretrained.native import load_model
from sfisep_core.pretrained.official import load_official_model
from sfisep_core.pretrained.registry import BUNDLED, RELEASED


def resolve_model(name: str) -> SeparationModel:
    """Load a model by name or path.

    Args:
        name: A bundled model's name, a native model file (.safetensors), or a checkpoint of the
            published SFI Conv-TasNet program.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        CheckpointError: Unknown name, missing file, or a file that is no model.
    """
    if name in BUNDLED:
        return load_model(BUNDLED[name])
    path = Path(name)
    if os.path.isfile(path):  # where pathlib raises on a name too long, it answers no
        return load_official_model(path) if zipfile.is_zipfile(path) else load_model(path)
    if name in RELEASED:
        entry = RELEASED[name]
        msg = (
            f"model {name}: published weights that this version cannot fetch by itself: download a "
            f"`best_checkpoint` file of {entry.repository} at revision {entry.revision} from the "
            "Hugging Face hub and pass its path as --model"
        )
        raise CheckpointError(msg)
    bundled = ", ".join(BUNDLED)
    msg = (
        f"model {name}: expected a bundled model ({bundled}) or the path of a model file; "
        "found no such file"
    )
    raise CheckpointError(msg)
