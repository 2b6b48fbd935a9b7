"""Output of one stem to standard output."""

import errno
import shutil
import sys
from pathlib import Path

from sfisep_core.errors import AudioFileError


def write_to_stdout(path: Path) -> None:
    """Copy a file to standard output.

    Raises:
        AudioFileError: Standard output cannot be written.
    """
    try:
        stream = getattr(sys.stdout, "buffer", None)
        if stream is None:
            raise OSError(errno.EBADF, "it is closed")
        with path.open("rb") as file:
            shutil.copyfileobj(file, stream)
        stream.flush()
    except OSError as error:
        msg = (
            f"standard output: expected it to take a stem, got {error.strerror}: name a folder "
            "with --out instead"
        )
        raise AudioFileError(msg) from error
