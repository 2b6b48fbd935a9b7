"""64-bit numbers for devices that have none, such as Apple's GPUs."""

import torch
from torch import Tensor

_WITHOUT = ("mps",)


def float64_device(device: torch.device) -> torch.device:
    """Return where what a device needs is computed in 64 bits: the device itself, or the CPU.

    Args:
        device: Where the result is needed.
    """
    return torch.device("cpu") if device.type in _WITHOUT else device


def to_float64(values: Tensor) -> Tensor:
    """Convert values to 64 bits, on their device or, where it has none, on the CPU."""
    return values.to(float64_device(values.device)).double()
