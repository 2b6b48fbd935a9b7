"""The memory through which loader workers hand over batches: whether it suffices."""

import os
import shutil
from typing import Any

from sfisep_core.data.mixing import RawBatch
from sfisep_core.errors import ConfigError, SfisepError, TrainingError

# Where Linux has it. Containers have 64 MB of it by default.
SHARED_MEMORY = "/dev/shm"  # noqa: S108  # nothing is opened there by name
SHARED_MEMORY_ADVICE = (
    "give a container more (`docker run --shm-size 2g`), or pass --loader-workers 0, which reads "
    "between the steps"
)
_MIB = 2**20


def check_shared_memory(batch_bytes: int, *, batches: int, workers: int) -> None:
    """Refuse workers whose batches have no room in shared memory.

    Args:
        batch_bytes: Of one batch.
        batches: How many of them a training process has in there at most.
        workers: Their number, for the message.

    Raises:
        ConfigError: There is too little.
    """
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:  # not Linux
        return
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # that train on this machine
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

    DataLoader's queue would do so in a thread of its own, which loses a batch for which there is
    no room, and the training process would wait for it for ever.

    Args:
        batch: The `RawBatch` that a worker has read, or the `SfisepError` that it met.

    Returns:
        The same, or the error that there is no room.
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
