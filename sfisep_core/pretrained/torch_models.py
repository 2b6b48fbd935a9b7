"""Files of `torch.save` that other programs wrote, by the layout of what is in them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sfisep_core.models.contract import SeparationModel
from sfisep_core.pretrained.model_files import Storage, save_model
from sfisep_core.pretrained.official import (
    convert_official_checkpoint,
    load_official_model,
    read_official_config,
)
from sfisep_core.pretrained.scnet import read_scnet
from sfisep_core.pretrained.torch_layouts import Layout, torch_layout
from sfisep_core.pretrained.torch_states import build_from_state
from sfisep_core.pretrained.torchaudio_bundles import read_conv_tasnet, read_hdemucs


@dataclass(frozen=True)
class _Program:
    """A program whose files hold nothing but a state.

    Attributes:
        name: Of its model, for messages.
        licence: Of weights in a file of unknown origin.
        read: From a file to settings and weights of the family.
    """

    name: str
    licence: str
    read: Callable[[Path], tuple[Any, dict[str, Tensor]]]


_PROGRAMS: dict[Layout, _Program] = {
    "scnet": _Program("SCNet", "MIT, where they are the author's", read_scnet),
    "hdemucs": _Program("Hybrid Demucs", "unstated", read_hdemucs),
    "conv-tasnet": _Program("Conv-TasNet", "unstated", read_conv_tasnet),
}


def load_torch_model(path: Path) -> SeparationModel:
    """Load a published checkpoint of one of the programs in `torch_layouts`.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, or holds another kind of model.
        ConfigError: The model needs torchaudio, which cannot be loaded.
    """
    layout = torch_layout(path)
    if layout not in _PROGRAMS:
        return load_official_model(path)
    program = _PROGRAMS[layout]
    config, weights = program.read(path)
    return build_from_state(layout, config, weights, path, program=program.name)


def read_torch_config(path: Path) -> tuple[str, Any]:
    """Read family and settings of such a file; no model is built.

    Raises:
        CheckpointError: As `load_torch_model`.
    """
    layout = torch_layout(path)
    if layout not in _PROGRAMS:
        return layout, read_official_config(path)
    return layout, _PROGRAMS[layout].read(path)[0]


def convert_torch_checkpoint(
    path: Path,
    out: Path,
    *,
    description: str = "",
    licence: str = "",
    storage: Storage = "float32",
) -> None:
    """Convert such a file to the native format.

    Args:
        path: The published file.
        out: Native model file to write (.safetensors).
        description: One line; none = one that names the file.
        licence: Licence of the weights; none = that of the program's published ones.
        storage: Storage format of the weights, see `save_model`.

    Raises:
        CheckpointError: The file cannot be read, or `out` not written.
        ConfigError: `out` is the file itself, a published SFI Conv-TasNet.
    """
    layout = torch_layout(path)
    if layout not in _PROGRAMS:
        convert_official_checkpoint(path, out, storage=storage)
        return
    program = _PROGRAMS[layout]
    save_model(
        load_torch_model(path),
        out,
        training={"description": description or f"{program.name}, converted from {path.name}"},
        licence=licence or program.licence,
        storage=storage,
    )
