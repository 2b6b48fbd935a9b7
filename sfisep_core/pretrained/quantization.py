"""Weights as 8-bit integers with one scale for each output channel.

In a model file such a weight is two tensors: NAME of int8, and NAME.int8_scale of float32, with the
axes of the weight, of which all but that of the output channels have one value. The weight is their
product. It is computed when the file is loaded: the network works with 32-bit floats as before.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from sfisep_core.errors import CheckpointError

SCALE_SUFFIX = ".int8_scale"

Bits = Literal[6, 8]
"""Of the integers. What needs 6 bits lies in 8 as well, and is smaller in a packed file."""

# Smaller weights stay as they are: they take no room, and the first and last layers of a network
# suffer most from rounding.
_FEWEST_VALUES = 4096
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def quantize(model: nn.Module, *, bits: Bits = 8) -> dict[str, Tensor]:
    """Round the large matrices and kernels of a model to integers.

    The largest value of each output channel becomes the largest integer, 127 with 8 bits. Biases,
    norms, weights of fewer than 4,096 values and the parameters of analog filters stay as they are.

    Args:
        model: Any model; it is left as it is.
        bits: Of an integer.

    Returns:
        Tensors by name, on the CPU: what a file holds, and `dequantize` takes.
    """
    highest = 2 ** (bits - 1) - 1
    output_axes = {
        f"{name}.weight": 1 for name, part in model.named_modules() if isinstance(part, _TRANSPOSED)
    }
    stored = {}
    for name, tensor in model.state_dict().items():
        weight = tensor.detach().cpu().contiguous()
        stored[name] = weight
        is_float = weight.is_floating_point() and weight.dim() > 1
        if not is_float or weight.numel() < _FEWEST_VALUES or ".filters." in name:
            continue
        others = [axis for axis in range(weight.dim()) if axis != output_axes.get(name, 0)]
        scale = weight.float().abs().amax(dim=others, keepdim=True) / highest
        steps = weight.float() / torch.where(scale > 0, scale, 1.0)
        stored[name] = steps.round().clamp(-highest, highest).to(torch.int8)
        stored[name + SCALE_SUFFIX] = scale
    return stored


def dequantize(stored: Mapping[str, Tensor], *, where: str) -> dict[str, Tensor]:
    """Multiply integers by their scales.

    Args:
        stored: Tensors by name, as `quantize` gives them; other files have no scales.
        where: What is wrong otherwise, for the message.

    Returns:
        Weights by name, without scales.

    Raises:
        CheckpointError: A weight of integers has no scale, a scale no weight of integers, or a
            scale is no finite 32-bit float from 0 on for each channel of one axis.
    """
    weights = {name: value for name, value in stored.items() if not name.endswith(SCALE_SUFFIX)}
    for name in stored.keys() - weights.keys():
        quantized = weights.get(name.removesuffix(SCALE_SUFFIX))
        if quantized is None or quantized.dtype != torch.int8:
            msg = f"{where}: scale {name} belongs to no weight of 8-bit integers"
            raise CheckpointError(msg)
    for name, weight in weights.items():
        if weight.dtype == torch.int8:
            scale = stored.get(name + SCALE_SUFFIX)
            if scale is None:
                msg = f"{where}: weight {name} has 8-bit integers, but no scale {SCALE_SUFFIX}"
                raise CheckpointError(msg)
            _check_scale(scale, weight, f"{where}: scale {name}{SCALE_SUFFIX}")
            weights[name] = weight * scale
    return weights


def _check_scale(scale: Tensor, weight: Tensor, what: str) -> None:
    """Refuse what is not one finite number for each output channel."""
    shapes = [
        tuple(size if place == axis else 1 for place, size in enumerate(weight.shape))
        for axis in range(weight.dim())
    ]
    if scale.dtype != torch.float32 or tuple(scale.shape) not in shapes:
        expected = " or ".join(map(str, map(list, shapes)))
        msg = (
            f"{what}: expected float32 of shape {expected}, found "
            f"{str(scale.dtype).removeprefix('torch.')} of shape {list(scale.shape)}"
        )
        raise CheckpointError(msg)
    if not (torch.isfinite(scale) & (scale >= 0)).all():
        msg = f"{what}: expected finite values from 0 on, found NaN, infinite or negative ones"
        raise CheckpointError(msg)
