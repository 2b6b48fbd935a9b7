"""Open files to read, and say why one cannot be read."""

from __future__ import annotations

import io
import os
from pathlib import Path

from sfisep_core.errors import AudioFileError


def open_regular_file(path: Path) -> io.FileIO:
    """Open a file that has content.

    Args:
        path: The file.

    Returns:
        The open file.

    Raises:
        AudioFileError: If it is missing, no regular file, empty, or not to be opened.
    """
    advice = "check the path"
    try:
        if path.is_file():
            raw = io.FileIO(path)
            if os.fstat(raw.fileno()).st_size > 0:
                return raw
            raw.close()
            found, advice = "an empty file (0 bytes)", "copy or download it again"
        elif path.is_dir():
            found = "a folder"
        else:
            found = "no regular file" if path.exists() else "no such file"
    except OSError as error:
        found, advice = f"an error ({error.strerror})", "check its permissions and the disk"
    raise unreadable(path, "an audio file", found, advice)


def unreadable(path: Path, expected: str, found: str, advice: str) -> AudioFileError:
    """Build the error for a file that cannot be read.

    Args:
        path: The file.
        expected: What it should be.
        found: What it is.
        advice: What to do.

    Returns:
        The error.
    """
    return AudioFileError(
        f"cannot read {str(path)!r}: expected {expected}, found {found}; {advice}"
    )
