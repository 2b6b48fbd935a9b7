"""States of other programs' models in files of `torch.save`, of which nothing is executed."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.pretrained.declared_size import build_declared
from sfisep_core.pretrained.model_files import check_finite
from sfisep_core.pretrained.torch_files import describe, read_torch_file

_BEST, _PREFIX = "best_state", "module."


def read_state(path: Path, *, program: str) -> dict[str, Tensor]:
    """Read a state: bare or as "best_state", the names perhaps with "module." in front.

    Args:
        path: The file.
        program: Name of the model, for messages.

    Raises:
        CheckpointError: The file is missing or damaged, or holds something else.
    """
    content = read_torch_file(path)
    if isinstance(content, dict) and _BEST in content:
        content = content[_BEST]
    if not isinstance(content, dict) or not content:
        msg = (
            f"checkpoint {path}: expected the weights of {program} by name, bare or as '{_BEST}', "
            f"got {describe(content)}"
        )
        raise CheckpointError(msg)
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            shown = str(name)[:100] if isinstance(name, str) else describe(name)
            msg = (
                f"checkpoint {path}: expected names and tensors as the weights of {program}, got "
                f"{shown}: {describe(value)}"
            )
            raise CheckpointError(msg)
    state = {name.removeprefix(_PREFIX): tensor.detach() for name, tensor in content.items()}
    if len(state) != len(content):
        msg = f"checkpoint {path}: expected each weight once, got some with and without '{_PREFIX}'"
        raise CheckpointError(msg)
    return state


def rename(state: Mapping[str, Tensor], names: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    """Rename the tensors of a state.

    Args:
        state: Tensors by name.
        names: Regular expressions and replacements, applied one after the other.
    """
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def build_from_state(
    family: str, config: Any, weights: Mapping[str, Tensor], path: Path, *, program: str
) -> SeparationModel:
    """Build a model with weights of another program.

    Args:
        family: Name of the family.
        config: The family's configuration.
        weights: Tensors under this program's names.
        path: Their file.
        program: Name of the model, for messages.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        CheckpointError: The weights are not those of such a model, or not finite.
    """
    where = f"checkpoint {path}: its weights are not those of a published {program}"
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    try:
        model = build_declared(family, asdict(config), shapes, where=where)
    except ConfigError as error:
        msg = f"{where}: {error}"
        raise CheckpointError(msg) from error
    check_finite(weights, path)
    model.load_state_dict(weights)
    return model.eval()
