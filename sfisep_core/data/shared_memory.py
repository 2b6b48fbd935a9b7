"""Check the shared memory through which loader workers pass batches."""

import os
import shutil
from typing import Any

from sfisep_core.data.mixing import RawBatch
from sfisep_core.errors import ConfigError, SfisepError, TrainingError

# Its path on Linux. Containers have 64 MB by default.
SHARED_MEMORY = "/dev/shm"  # noqa: S108  # no file is created there by name
SHARED_MEMORY_ADVICE = (
    "give a container more (`docker run --shm-size 2g`), or pass --loader-workers 0, which reads "
    "between the steps"
)
_MIB = 2**20


def check_shared_memory(batch_bytes: int, *, batches: int, workers: int) -> None:
    """Check that the batches of workers fit into shared memory.

    Args:
        batch_bytes: Size of one batch in bytes.
        batches: Maximum number of batches of a training process in shared memory.
        workers: Their number, for the message.

    Raises:
        ConfigError: There is too little shared memory.
    """
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:  # not Linux
        return
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # training processes on this machine
    needed = batches * batch_bytes * processes
    if free < needed:
        msg = (
            f"--loader-workers {workers}: batches of {batch_bytes / _MIB:.1f} MiB need "
            f"{needed / _MIB:.0f} MiB of {SHARED_MEMORY}, where {free / _MIB:.0f} MiB are free: "
            f"{SHARED_MEMORY_ADVICE}"
        )
        raise ConfigError(msg)


def share_batch(batch: Any) -> RawBatch | SfisepError:
    """Put a batch into shared memory.

    DataLoader's queue does this in a separate thread, which loses a batch that does not fit, and
    the training process would wait forever.

    Args:
        batch: The `RawBatch` of a worker, or its `SfisepError`.

    Returns:
        The same object, or the error that memory is insufficient.
    """
    if isinstance(batch, SfisepError):
        return batch
    assert isinstance(batch, RawBatch)
    try:
        for tensor in (batch.stems, batch.gains, batch.curves):
            tensor.share_memory_()  # type: ignore[no-untyped-call]  # torch declares no types
    except (RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return TrainingError(
            f"training: {SHARED_MEMORY} has no room for another batch ({reason}); "
            f"{SHARED_MEMORY_ADVICE}"
        )
    return batch
