"""Devices of the computation."""

import logging

import torch

from sfisep_core.errors import ConfigError
from sfisep_core.foundation.jobs import Execution
from sfisep_core.wording import counted

_logger = logging.getLogger(__name__)


def find_device(name: str) -> torch.device:
    """Return a device by name.

    Args:
        name: "auto" (CUDA if there is one, else the CPU), "cpu", "cuda" or "cuda:1", ..., or "mps"
            (the GPU of an Apple computer), which "auto" does not take: it is untested.

    Returns:
        The device.

    Raises:
        ConfigError: The device is unknown, not available, or of an unsupported kind.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        _logger.info("device: %s (%s)", name, "found" if name == "cuda" else "no CUDA GPU found")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        msg = f"device {name!r}: expected auto, cpu, cuda, cuda:0, cuda:1, ... or mps"
        raise ConfigError(msg) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = counted(torch.cuda.device_count(), "CUDA GPU")
        msg = f"device {name}: not there; found {there}: pass another one, or cpu"
        raise ConfigError(msg)
    if device.type == "mps" and not torch.backends.mps.is_available():
        msg = "device mps: not there: expected an Apple computer with a GPU: pass cpu"
        raise ConfigError(msg)
    if device.type not in ("cpu", "cuda", "mps"):
        msg = f"device {name}: not supported: pass cpu, cuda or mps"
        raise ConfigError(msg)
    return device


def worker_device(device: str, execution: Execution) -> str:
    """Return the device of a worker; a worker of a cluster sees only its own GPU.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        execution: Where the workers run.
    """
    return device.partition(":")[0] if execution.engine == "ray" else device


def threads_of_worker(workers: int) -> int:
    """Divide PyTorch's threads of this process among workers.

    Args:
        workers: Number of parallel workers, 1 or more.
    """
    return max(1, torch.get_num_threads() // workers)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error means that a device, including the CPU, is out of memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
