"""Weights as 8-bit integers with one scale per output channel.

In a model file such a weight is two tensors: NAME of int8, and NAME.int8_scale of float32, with the
axes of the weight, where all but that of the output channels have length 1. The weight is their
product, computed when the file is loaded: the network uses 32-bit floats as before.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from sfisep_core.errors import CheckpointError

SCALE_SUFFIX = ".int8_scale"

Bits = Literal[6, 8]
"""Bits of the integers. Those of 6 bits are stored in 8, but compress better."""

# Smaller weights are not quantised: they need little space, and the first and last layers of a
# network are the most sensitive to rounding.
_FEWEST_VALUES = 4096
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def quantize(model: nn.Module, *, bits: Bits = 8) -> dict[str, Tensor]:
    """Round the large matrices and kernels of a model to integers.

    The largest value of each output channel becomes the largest integer, 127 with 8 bits. Biases,
    norms, weights of fewer than 4,096 values and the parameters of analog filters are not changed.

    Args:
        model: Any model; it is not changed.
        bits: Bits of an integer.

    Returns:
        Tensors by name, on the CPU, for a file and `dequantize`.
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
        stored: Tensors by name, as from `quantize`; other files have no scales.
        where: Start of the error message.

    Returns:
        Weights by name, without scales.

    Raises:
        CheckpointError: An integer weight has no scale, a scale has no integer weight, or a scale
            is not one finite, non-negative 32-bit float for each channel of one axis.
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
    """Check that a scale has one finite number per output channel."""
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
