"""Write files that have their name only when they are complete."""

import contextlib
import math
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sfisep_core.foundation.interrupts import signals_deferred

# Cut, because a name of 255 bytes has no room for the additions: 40 characters have up to 160.
_KEPT_OF_NAME = 40
_KEPT_OF_ENDING = 16
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.part(\.[^.]*)?")
# Seconds without a write after which a temporary file is that of a run that was killed.
_LEFT_OVER = 3600.0

_cleaned: set[Path] = set()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success that file replaces `path`.

    After an exception the temporary file is gone, and a file that was there before is still there.
    What runs that were killed left in the folder is removed.

    Args:
        path: Final name.

    Yields:
        Name to write to; random, so that two processes stay out of each other's files.

    Raises:
        OSError: The file cannot be written to the disk, or not be renamed.
    """
    remove_left_overs(path.parent)
    temporary = temporary_beside(path)
    try:
        yield temporary
        put_in_place(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()  # gone already where all went well


def temporary_beside(path: Path) -> Path:
    """Return a random name in the folder of `path`, with its ending, that is not too long."""
    ending = path.suffix[:_KEPT_OF_ENDING]
    return path.with_name(f".{path.stem[:_KEPT_OF_NAME]}.{secrets.token_hex(8)}.part{ending}")


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a complete file its final name once the disk has it.

    Args:
        temporary: File, closed by who wrote it.
        path: Final name; a file there is replaced.

    Raises:
        OSError: The disk does not take it, or it cannot be renamed.
    """
    _flush(temporary)
    temporary.replace(path)


def put_all_in_place(files: Mapping[Path, Path]) -> None:
    """Give complete files that belong together their final names: all of them or none.

    Signals that come meanwhile wait: renaming takes microseconds.

    Args:
        files: Final name of each temporary file, which lies in the same folder.

    Raises:
        OSError: The disk does not take one, or it cannot be renamed; `filename2` is then its final
            name. What was there before is there again.
    """
    for temporary in files:
        _flush(temporary)
    with signals_deferred(), contextlib.ExitStack() as undo:
        kept = []
        for temporary, path in files.items():
            if len(files) > 1 and path.is_file():
                kept.append(temporary_beside(path))
                _keep(path, kept[-1])
                undo.callback(_restore, kept[-1], path)
            temporary.replace(path)
            if len(files) > 1:
                undo.callback(path.replace, temporary)
        undo.pop_all()
        for before in kept:
            with contextlib.suppress(OSError):
                before.unlink()


def _keep(path: Path, kept: Path) -> None:
    """Let what has a name be found by another one, too, or instead where there are no links."""
    try:
        kept.hardlink_to(path)
    except OSError:
        path.replace(kept)


def _restore(kept: Path, path: Path) -> None:
    kept.replace(path)
    kept.unlink(missing_ok=True)  # renaming to another name of the same file does nothing


def _flush(file: Path) -> None:
    # Without this a crash of the machine can leave a name with nothing behind it.
    with file.open("r+b") as opened:
        os.fsync(opened.fileno())


def remove_left_overs(folder: Path, *, shared: bool = True) -> None:
    """Remove the temporary files of runs that were killed.

    Args:
        folder: Any folder.
        shared: Whether others may be writing there now: files that were written to within the last
            hour then stay, and a process looks into a folder once only. False where a lock keeps
            the others out.
    """
    if shared and folder in _cleaned:
        return
    _cleaned.add(folder)
    latest = time.time() - _LEFT_OVER if shared else math.inf
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _TEMPORARY.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime < latest:
                    os.unlink(entry.path)
