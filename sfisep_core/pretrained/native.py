"""The native model format: one safetensors file whose metadata say how to build the model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.foundation.atomic import written_whole
from sfisep_core.models.contract import SeparationModel
from sfisep_core.pretrained.declared_size import build_declared
from sfisep_core.pretrained.description import FORMAT_VERSION, METADATA_KEY, read_description


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
    metadata = {METADATA_KEY: json.dumps(description)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            # safetensors' own `save_file` makes files that only their owner may read
            temporary.write_bytes(save(tensors, metadata))
    except (OSError, SafetensorError) as error:
        msg = f"model file {path}: cannot be written: {error}: choose another place"
        raise CheckpointError(msg) from error


def check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that would make every output NaN.

    Raises:
        CheckpointError: A weight holds NaN or infinite values.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            msg = (
                f"model file {path}: weight {name} holds values that are not finite: take another "
                "file, as the checkpoint before"
            )
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
            model = build_declared(description.family, description.config, shapes, where=misfit)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        msg = (
            f"model file {path}: expected a safetensors file, cannot be read as one, perhaps "
            f"because it is cut ({path.stat().st_size} bytes): {error}: fetch it again"
        )
        raise CheckpointError(msg) from error
    except (
        ConfigError,
        ArithmeticError,
        TypeError,
        ValueError,
        RuntimeError,
        MemoryError,
    ) as error:
        msg = f"{misfit}: {first_line(error)}"
        raise CheckpointError(msg) from error
    reference = model.state_dict()
    check_finite(weights, path)
    model.load_state_dict(
        {name: tensor.to(reference[name].dtype) for name, tensor in weights.items()}
    )
    return model.eval()
