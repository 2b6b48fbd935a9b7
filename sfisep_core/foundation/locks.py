"""Locks between processes: files that one process at a time holds.

filelock is imported where a lock is taken: commands that take none should not wait for it.
"""

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import FileLock

_logger = logging.getLogger(__name__)

# Seconds that a holder may be idle (a server may stall for four times 15 s), and polling interval.
_PATIENCE = 120.0
_LOOK_AGAIN = 1.0

_NO_LOCKS = "the file system has no locks, as some network file systems"


class LockHeldError(Exception):
    """Another process holds the lock.

    Attributes:
        holder: "process N on HOST", or "another process" if unknown.
    """

    def __init__(self, message: str, *, holder: str = "another process") -> None:
        super().__init__(message)
        self.holder = holder


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock between processes within the block.

    Args:
        path: File of the lock, in an existing folder. It is not removed.
        wait: Whether to wait without limit for a process that holds it.

    Raises:
        LockHeldError: Another process holds it, and `wait` is False.
        OSError: The file cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        with _file_named(path):
            lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        msg = f"{path}: another process holds this lock"
        raise LockHeldError(msg) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked_while_busy(
    path: Path, *, holder: Path, written: Callable[[], int], purpose: str
) -> Iterator[None]:
    """Hold a lock within the block; wait for another holder as long as it makes progress.

    Args:
        path: File of the lock, in an existing folder. It is not removed.
        holder: File with the name of the process that holds the lock.
        written: Returns the number of bytes that the holder has written so far.
        purpose: What the lock is for, for the log: "fetches NAME".

    Raises:
        LockHeldError: Another process holds it, and has written nothing for two minutes.
        OSError: A file cannot be written.
    """
    from filelock import FileLock

    lock = FileLock(path)
    with _file_named(path):
        _acquire_while_busy(lock, holder, written, purpose)
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _file_named(path: Path) -> Iterator[None]:
    """Add the file to system errors of the lock itself, which do not name it, and explain one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        if error.errno == errno.ENOLCK:
            error.strerror = _NO_LOCKS
        raise


def _acquire_while_busy(
    lock: "FileLock", holder: Path, written: Callable[[], int], purpose: str
) -> None:
    from filelock import Timeout

    with contextlib.suppress(Timeout):
        lock.acquire(timeout=0)
        return
    _logger.info("waiting for %s, which %s", _name_in(holder), purpose)
    size, waited = 0, 0.0
    while waited < _PATIENCE:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=_LOOK_AGAIN)
            return
        before, size = size, written()
        waited = 0.0 if size != before else waited + _LOOK_AGAIN
    name = _name_in(holder)
    msg = (
        f"{name} holds {lock.lock_file} and has written nothing for {_PATIENCE:g} s: end it, and "
        "try again"
    )
    raise LockHeldError(msg, holder=name)


def _name_in(holder: Path) -> str:
    try:
        text = holder.read_text(encoding="utf-8")[:100]
    except (OSError, ValueError):
        text = ""
    return text if text.isprintable() and text else "another process"
