"""Read the weights and settings from a checkpoint of the published SFI Conv-TasNet program."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfisep_core.errors import CheckpointError
from sfisep_core.pretrained.torch_files import Placeholder, describe, read_torch_file

# The settings are OmegaConf objects, which are read without OmegaConf, or plain ones.
_SETTINGS_MODULES = ("omegaconf", "argparse", "typing", "builtins")
# The released settings have about 100 values; the limit stops endlessly shared references.
_MAX_SETTINGS = 10_000


@dataclass(frozen=True)
class OfficialCheckpoint:
    """Content of a checkpoint of the released SFI Conv-TasNet.

    Attributes:
        state_dict: Weights by parameter name, on the CPU, without gradient.
        settings: The training settings as nested dict, list, str, int, float, bool and None.
            A value of another kind is replaced by its name in angle brackets.
        epoch: Epoch of the checkpoint; None when the file does not give a whole number.
        steps: Optimizer steps so far; None when the file does not give a whole number.
    """

    state_dict: dict[str, torch.Tensor]
    settings: dict[str, Any]
    epoch: int | None
    steps: int | None


def read_official_checkpoint(path: Path) -> OfficialCheckpoint:
    """Read a checkpoint of the released SFI Conv-TasNet, without running code from the file.

    Args:
        path: A file with `state_dict`, `args` and optionally `epoch` and `steps`; other entries,
            such as the optimizer's, are ignored.

    Returns:
        The weights and settings in plain types.

    Raises:
        CheckpointError: As `read_torch_file`, or the entries are missing or of another kind.
    """
    content = read_torch_file(path, placeholders=_SETTINGS_MODULES)
    try:
        return _checkpoint(content)
    except (ValueError, TypeError, RecursionError) as error:
        msg = f"checkpoint {path}: is not one of the published SFI Conv-TasNet: {error}"
        raise CheckpointError(msg) from error


def _checkpoint(content: object) -> OfficialCheckpoint:
    if not isinstance(content, dict) or not {"state_dict", "args"} <= content.keys():
        got = (
            [_name(key) for key in content][:10] if isinstance(content, dict) else describe(content)
        )
        msg = f"expected a dict with 'state_dict' and 'args', got {got}"
        raise ValueError(msg)
    weights = content["state_dict"]
    if not isinstance(weights, dict):
        msg = f"expected a dict as 'state_dict', got {describe(weights)}"
        raise TypeError(msg)
    for key, value in weights.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            msg = f"expected names and tensors in 'state_dict', got {_name(key)}: {describe(value)}"
            raise TypeError(msg)
    settings = _plain_settings(content["args"])
    if not isinstance(settings, dict):
        msg = f"expected named settings as 'args', got {describe(content['args'])}"
        raise TypeError(msg)
    epoch, steps = (
        value if type(value := content.get(key)) is int else None for key in ("epoch", "steps")
    )
    detached = {name: tensor.detach() for name, tensor in weights.items()}
    return OfficialCheckpoint(detached, settings, epoch, steps)


def _name(key: object) -> str:
    return str(key)[:100] if isinstance(key, str | int) else describe(key)


def _plain_settings(settings: object) -> object:
    visited = 0

    def plain(node: object) -> object:
        nonlocal visited
        visited += 1
        if visited > _MAX_SETTINGS:
            msg = f"its settings have over {_MAX_SETTINGS} values, or contain themselves"
            raise ValueError(msg)
        match node:
            case None | str() | int() | float():
                return node
            case dict():
                return {_name(key): plain(value) for key, value in node.items()}
            case list() | tuple():
                return [plain(value) for value in node]
            case Placeholder(module=module, state=dict() as state):
                # OmegaConf 1.4 stores a value under the plain name, OmegaConf 2 under the other.
                if module.partition(".")[0] == "omegaconf":
                    for key in ("content", "_content", "val", "_val"):
                        if key in state:
                            return plain(state[key])
                return plain(state)
        return describe(node)

    return plain(settings)
