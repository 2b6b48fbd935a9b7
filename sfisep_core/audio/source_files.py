"""Open files for reading, with an error that says why a file cannot be read."""

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
        AudioFileError: If it is missing, not a regular file, empty, or cannot be opened.
    """
    advice = "check the path"
    try:
        if path.is_file():
            raw = io.FileIO(path)
            if os.fstat(raw.fileno()).st_size > 0:
                return raw
            raw.close()
            actual, advice = "an empty file (0 bytes)", "copy or download it again"
        elif path.is_dir():
            actual = "a folder"
        else:
            actual = "no regular file" if path.exists() else "no such file"
    except OSError as error:
        actual, advice = f"an error ({error.strerror})", "check its permissions and the disk"
    raise unreadable(path, "an audio file", actual, advice)


class FileView:
    """A part of a file with its own position; four bytes of it may be read as zeros."""

    def __init__(
        self,
        raw: io.FileIO,
        *,
        start: int = 0,
        stop: int | None = None,
        name: str = "",
        zeros_at: int | None = None,
    ) -> None:
        """View a file.

        Args:
            raw: The file, open; its position changes.
            start: First byte of the part.
            stop: The byte after its last; None = the end of the file.
            name: Its name in messages; no file of this name is opened.
            zeros_at: The first of the four bytes, relative to the start of the part.
        """
        self.name = name
        self._raw, self._start = raw, start
        self._stop = os.fstat(raw.fileno()).st_size if stop is None else stop
        self._zeros = range(0) if zeros_at is None else range(zeros_at, zeros_at + 4)
        self._position = 0

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes, fewer at the end of the part."""
        # Headers may contain any position, and seeking beyond the largest possible file fails.
        room = max(self._stop - self._start - self._position, 0)
        if room == 0:
            return b""
        self._raw.seek(self._start + self._position)
        content = bytearray(self._raw.read(room if count < 0 else min(count, room)) or b"")
        for place in self._zeros:
            if 0 <= place - self._position < len(content):
                content[place - self._position] = 0
        self._position += len(content)
        return bytes(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position, and return it."""
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self._stop - self._start
        self._position = max(offset, 0)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position


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
