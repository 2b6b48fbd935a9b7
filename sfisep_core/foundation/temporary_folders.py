"""Temporary folders that a later run removes where the one that made them was killed."""

import contextlib
import multiprocessing.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sfisep_core.foundation.locks import LockHeldError, locked

_PREFIX = "sfisep-"
# Of the folders that `multiprocessing` makes for its sockets.
_PREFIX_OF_SOCKETS = "pymp-"
# In a folder of ours; held as long as it is in use, also against a process that is killed.
_LOCK_NAME = ".sfisep.lock"
# Seconds within which the maker of a folder has surely locked it.
_LEFT_OVER = 3600.0


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder for the time of the block, where TMPDIR says.

    Yields:
        The folder.

    Raises:
        OSError: It cannot be made.
    """
    remove_left_folders()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, locked(Path(folder) / _LOCK_NAME):
        yield Path(folder)


def claim_folder_of_sockets() -> None:
    """Let later runs remove what `multiprocessing` leaves of this process if it is killed.

    To be called before processes are started in a way that needs sockets.
    """
    remove_left_folders()
    folder = Path(multiprocessing.util.get_temp_dir())
    if (folder / _LOCK_NAME).exists():
        return
    held = contextlib.ExitStack()
    held.enter_context(locked(folder / _LOCK_NAME))
    # Before the folder is removed, at priority -100, when the process ends.
    multiprocessing.util.Finalize(None, held.close, exitpriority=-99)


def remove_left_folders() -> None:
    """Remove folders of this program whose makers were killed; others' are never touched."""
    latest = time.time() - _LEFT_OVER
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith((_PREFIX, _PREFIX_OF_SOCKETS)):
                with contextlib.suppress(OSError, LockHeldError):
                    _remove(entry, latest)


def _remove(entry: os.DirEntry[str], latest: float) -> None:
    lock = Path(entry.path, _LOCK_NAME)
    # Whoever may write to the folder of temporary files could set links there.
    if not entry.is_dir(follow_symlinks=False) or lock.is_symlink() or not lock.is_file():
        return
    if hasattr(os, "getuid") and entry.stat(follow_symlinks=False).st_uid != os.getuid():
        return
    if lock.stat().st_mtime < latest:
        with locked(lock, wait=False):
            shutil.rmtree(entry.path, ignore_errors=True)
