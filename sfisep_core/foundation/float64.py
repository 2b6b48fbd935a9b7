"""64-bit numbers for devices that have none, such as Apple's GPUs."""

import torch

_WITHOUT = ("mps",)


def float64_device(device: torch.device) -> torch.device:
    """Return where what a device needs is computed in 64 bits: the device itself, or the CPU.

    Args:
        device: Where the result is needed.
    """
    return torch.device("cpu") if device.type in _WITHOUT else device
