"""Identity of a model: digest, family, sources and native rate, without its weights."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.foundation.digests import file_sha256
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import describe_model
from sfisep_core.pretrained.address import folder_name, shown_name
from sfisep_core.pretrained.description import read_description
from sfisep_core.pretrained.file_kinds import model_file_kind
from sfisep_core.pretrained.model_files import first_line
from sfisep_core.pretrained.resolve import model_path, resolve_model
from sfisep_core.pretrained.spleeter import read_spleeter_config
from sfisep_core.pretrained.torch_models import read_torch_config

# Device, inode, bytes, and the times of the last changes of content and of inode.
_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class ModelIdentity:
    """Properties of a model that are known before its weights are loaded.

    It is a small value that is sent to other processes, which load the weights themselves.

    Attributes:
        name: Name, path or address, see `resolve_model`.
        sha256: Digest of the model file in hexadecimal digits.
        family: Name of the family in `models.registry`.
        sources: Names in the order of the source axis.
        native_rate: Rate in Hz at which the model was trained.
    """

    name: str
    sha256: str
    family: str
    sources: tuple[str, ...]
    native_rate: int

    @property
    def label(self) -> str:
        """Short name for folders and tables."""
        return folder_name(self.name)

    @property
    def shown(self) -> str:
        """Name for display and storage: an address without its secrets."""
        return shown_name(self.name)


def identify_model(name: str) -> ModelIdentity:
    """Read the identity of a model; weights are not loaded.

    The result is cached as long as the file on disk is unchanged.

    Args:
        name: See `model_path`; a model that is not available locally is downloaded.

    Returns:
        The identity.

    Raises:
        UnknownModelError: There is no such name and no such file.
        CheckpointError: The file is not a model, or a download failed. Damaged weights are
            detected only when they are loaded.
    """
    path = model_path(name)
    try:
        status = path.stat()
    except OSError as error:
        msg = f"model file {path}: cannot be read: {error.strerror}"
        raise CheckpointError(msg) from error
    stamp = (
        *(status.st_dev, status.st_ino, status.st_size),
        *(status.st_mtime_ns, status.st_ctime_ns),
    )
    return replace(_read_identity(path.absolute(), stamp), name=name)


def load_identified(identity: ModelIdentity) -> SeparationModel:
    """Load the weights of a model that was identified before.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        CheckpointError: The model cannot be loaded, or its file has changed.
    """
    model = resolve_model(identity.name)
    check_unchanged(identity)  # after loading, because the file may be replaced at any time
    return model


def check_unchanged(identity: ModelIdentity) -> None:
    """Check that a model's file was not replaced since it was identified.

    Raises:
        CheckpointError: The file has changed or is missing.
    """
    if identify_model(identity.name) != identity:
        msg = (
            f"model {identity.shown}: its file was replaced during the run; expected it to stay "
            "what it is: start again"
        )
        raise CheckpointError(msg)


@lru_cache(maxsize=16)
def _read_identity(path: Path, stamp: _Stamp) -> ModelIdentity:
    del stamp  # only part of the cache's key, so that a changed file is read again
    kind = model_file_kind(path)
    if kind == "torch":
        family, config = read_torch_config(path)
        sources, native_rate = config.sources, config.native_rate
    elif kind == "tensorflow":
        spleeter = read_spleeter_config(path)
        family, sources, native_rate = "spleeter", spleeter.sources, spleeter.native_rate
    else:
        description = read_description(path)
        family = description.family
        try:
            sources, native_rate = describe_model(family, description.config)
        except ConfigError as error:
            msg = f"model file {path}: its description fits no model: {first_line(error)}"
            raise CheckpointError(msg) from error
    return ModelIdentity(str(path), file_sha256(path), family, sources, native_rate)
