"""Files of `torch.save` that other programs wrote, by the layout of what is in them."""

from pathlib import Path

from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.scnet import SCNetConfig
from sfisep_core.models.sfi_conv_tasnet import SFIConvTasNetConfig
from sfisep_core.pretrained.model_files import Storage
from sfisep_core.pretrained.official import (
    convert_official_checkpoint,
    load_official_model,
    read_official_config,
)
from sfisep_core.pretrained.scnet import (
    convert_scnet,
    is_scnet_checkpoint,
    load_scnet,
    read_scnet_config,
)


def load_torch_model(path: Path) -> SeparationModel:
    """Load a published SCNet or a checkpoint of the published SFI Conv-TasNet program.

    Raises:
        CheckpointError: The file is missing, damaged, or holds another kind of model.
    """
    return load_scnet(path) if is_scnet_checkpoint(path) else load_official_model(path)


def read_torch_config(path: Path) -> tuple[str, SCNetConfig | SFIConvTasNetConfig]:
    """Read family and settings of such a file; no model is built.

    Raises:
        CheckpointError: As `load_torch_model`.
    """
    if is_scnet_checkpoint(path):
        return "scnet", read_scnet_config(path)
    return "sfi-conv-tasnet", read_official_config(path)


def convert_torch_checkpoint(path: Path, out: Path, *, storage: Storage = "float32") -> None:
    """Convert such a file to the native format.

    Raises:
        CheckpointError: The file cannot be read, or `out` not written.
        ConfigError: `out` is the file itself, a published SFI Conv-TasNet.
    """
    if not is_scnet_checkpoint(path):
        convert_official_checkpoint(path, out, storage=storage)
        return
    convert_scnet(path, out, storage=storage)
