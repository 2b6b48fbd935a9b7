"""The native model format: one safetensors file with a description of the model as metadata."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from sfisep_core.errors import CheckpointError, ConfigError
from sfisep_core.foundation.exit_signals import raise_received
from sfisep_core.models.contract import SeparationModel
from sfisep_core.pretrained.declared_size import build_declared
from sfisep_core.pretrained.description import ModelDescription, read_description
from sfisep_core.pretrained.quantization import dequantize, quantize
from sfisep_core.pretrained.tensor_files import read_tensors, write_tensors

Storage = Literal["float32", "float16", "int8", "int6"]
"""Storage format of the large weights in a model file."""


def save_model(
    model: SeparationModel,
    path: Path,
    *,
    training: Mapping[str, Any] | None = None,
    licence: str = "",
    storage: Storage = "float32",
) -> None:
    """Write a model file atomically.

    Args:
        model: The model.
        path: File to write, `.safetensors`.
        training: How it was trained.
        licence: Licence of the weights.
        storage: "float16": matrices in 16-bit floats. "int8": large ones as integers with one scale
            per output channel, a quarter of the size. "int6": the same with integers of 6 bits,
            which compress better (see `quantization`). The analog filters' parameters always have
            32 bits: a centre of 1e5 rad/s in 16 bits would be wrong by 10 Hz, or infinite.

    Raises:
        CheckpointError: The file cannot be written, or a weight is not finite; an existing file is
            kept.
    """
    check_finite(model.state_dict(), path)
    tensors = _stored(model, storage)
    check_finite(tensors, path)  # also after conversion to 16 bits
    description = ModelDescription(model.family, model.config_dict(), dict(training or {}), licence)
    write_tensors(path, tensors, description)


def _stored(model: SeparationModel, storage: Storage) -> dict[str, Tensor]:
    """Return the tensors to store in a file."""
    if storage == "int8":
        return quantize(model)
    if storage == "int6":
        return quantize(model, bits=6)
    tensors = {}
    for name, tensor in model.state_dict().items():
        stored = tensor.detach().cpu().contiguous()
        is_matrix = stored.is_floating_point() and stored.dim() > 1 and ".filters." not in name
        tensors[name] = stored.half() if storage == "float16" and is_matrix else stored
    return tensors


def check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Check that all weights are finite.

    Raises:
        CheckpointError: A weight contains NaN or infinite values.
    """
    for name, tensor in weights.items():
        # A finite sum needs no second, ten times slower look at 10 million weights.
        if (
            tensor.is_floating_point()
            and not tensor.sum().isfinite()
            and not tensor.isfinite().all()
        ):
            msg = (
                f"model file {path}: weight {name} holds values that are not finite: take another "
                "file, as the checkpoint before"
            )
            raise CheckpointError(msg)


def check_out(out: Path, inputs: Iterable[Path]) -> None:
    """Check that a file to write is named as a model, and is none of those of which it is made.

    Raises:
        ConfigError: It is named otherwise, so it may be another kind of file; or it is one of them.
    """
    for path in inputs:
        if os.path.exists(path) and os.path.exists(out) and os.path.samefile(path, out):
            msg = (
                f"model file {out}: would replace {path}, of which it is made: choose another name"
            )
            raise ConfigError(msg)
    if out.suffix != ".safetensors":
        msg = f"model file {out}: to be written: expected a name that ends in .safetensors"
        raise ConfigError(msg)


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, since torch's messages have many lines."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def load_model(path: Path) -> SeparationModel:
    """Load a native model file.

    Args:
        path: File written by `save_model`.

    Returns:
        The model in float32, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: The file is damaged, of another kind or a later format, or its weights do
            not match its description.
    """
    description = read_description(path)
    misfit = f"model file {path}: weights and description do not fit"
    try:
        weights = dequantize(read_tensors(path, description), where=misfit)
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        model = build_declared(description.family, description.config, shapes, where=misfit)
        check_finite(weights, path)
    except (
        ConfigError,
        ArithmeticError,
        TypeError,
        ValueError,
        RuntimeError,
        MemoryError,
    ) as error:
        raise_received()
        msg = f"{misfit}: {first_line(error)}"
        raise CheckpointError(msg) from error
    reference = model.state_dict()
    model.load_state_dict(
        {name: tensor.to(reference[name].dtype) for name, tensor in weights.items()}
    )
    return model.eval()
