"""The native model format: one safetensors file whose metadata say how to build the model."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sfisep_core.atomic import written_whole
from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.models.contract import SeparationModel
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.declared_size import check_declared_size
from sfisep_core.pretrained.file_kinds import check_kind

FORMAT_VERSION = 1
_KEY = "sfisep"


@dataclass(frozen=True)
class ModelDescription:
    """What a model file says about itself.

    Attributes:
        family: Name of the family.
        config: Settings that build the model.
        training: How it was trained: data, steps, scores; free text and numbers.
        licence: Licence of the weights.
    """

    family: str
    config: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = ""


def save_model(
    model: SeparationModel,
    path: Path,
    *,
    training: Mapping[str, Any] | None = None,
    licence: str = "",
    half: bool = False,
) -> None:
    """Write a model; the file appears under its name only when complete.

    Args:
        model: The model.
        path: File to write, `.safetensors`.
        training: How it was trained.
        licence: Licence of the weights.
        half: Store matrices in 16-bit floats. The analog filters' parameters always keep 32 bits:
            a centre of 1e5 rad/s in 16 bits would be off by 10 Hz, or infinite.

    Raises:
        CheckpointError: The file cannot be written, or a weight is not finite; a file that was
            there before is still there.
    """
    tensors = {}
    for name, tensor in model.state_dict().items():
        stored = tensor.detach().cpu().contiguous()
        if half and stored.is_floating_point() and stored.dim() > 1 and ".filters." not in name:
            stored = stored.half()
        tensors[name] = stored
    check_finite(tensors, path)
    description = {
        "format_version": FORMAT_VERSION,
        "family": model.family,
        "config": model.config_dict(),
        "training": dict(training or {}),
        "licence": licence,
    }
    metadata = {_KEY: json.dumps(description)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            # safetensors' own `save_file` makes files that only their owner may read
            temporary.write_bytes(save(tensors, metadata))
    except (OSError, SafetensorError) as error:
        msg = f"model file {path}: cannot be written: {error}"
        raise CheckpointError(msg) from error


def read_description(path: Path) -> ModelDescription:
    """Read what a model file says about itself, without its weights.

    Args:
        path: A native model file.

    Returns:
        The description.

    Raises:
        CheckpointError: Not a native model file, or one of a later format.
    """
    check_kind(path, "safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError, struct.error) as error:
        msg = (
            f"model file {path}: expected a safetensors file, cannot be read as one, perhaps "
            f"because it is cut ({path.stat().st_size} bytes): {error}: fetch it again"
        )
        raise CheckpointError(msg) from error
    try:
        description = json.loads(metadata[_KEY])
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
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        msg = (
            f"model file {path}: a safetensors file, but without sfisep's description of the "
            f"model ({error!r}): expected a file written by `sfisep train` or "
            "`sfisep models convert`"
        )
        raise CheckpointError(msg) from error


def check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that would make every output NaN.

    Raises:
        CheckpointError: A weight holds NaN or infinite values.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            msg = f"model file {path}: weight {name} holds values that are not finite"
            raise CheckpointError(msg)


def first_line(error: BaseException) -> str:
    """Give the first line of an error that others raised: torch's messages have many."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def load_model(path: Path) -> SeparationModel:
    """Load a native model file.

    Args:
        path: File written by `save_model`.

    Returns:
        The model in float32, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: The file is damaged, of another kind or a later format, or its weights do
            not fit its own description.
    """
    description = read_description(path)
    misfit = f"model file {path}: weights and description do not fit"
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            check_declared_size(description.family, description.config, shapes, where=misfit)
            model = build_model(description.family, description.config)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (
        ConfigError,
        ArithmeticError,
        TypeError,
        ValueError,
        RuntimeError,
        OSError,
        MemoryError,
        SafetensorError,
    ) as error:
        msg = f"{misfit}: {first_line(error)}"
        raise CheckpointError(msg) from error
    reference = model.state_dict()
    check_finite(weights, path)
    model.load_state_dict(
        {name: tensor.to(reference[name].dtype) for name, tensor in weights.items()}
    )
    return model.eval()
