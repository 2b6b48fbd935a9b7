"""Open files with libsndfile, to be read forward."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import soundfile

from sfisep_core.audio.source_files import FileView


class StoppedError(Exception):
    """libsndfile does not go on, or does not read this file at all."""


def open_sequential(raw: io.FileIO | FileView, form: Mapping[str, Any] | None = None) -> Any:
    """Open a file.

    Args:
        raw: The file, or a part of one; it stays open, and its position changes.
        form: What soundfile is to be told of samples without a header; None = there is one.

    Returns:
        A SoundFile, to be closed.

    Raises:
        StoppedError: libsndfile does not read it.
    """
    raw.seek(0)
    try:
        # libsndfile gets the descriptor: it then judges the content and never the name.
        source = raw.fileno() if isinstance(raw, io.FileIO) else raw
        return _SequentialFile(source, closefd=False, **(form or {}))
    except soundfile.LibsndfileError as error:
        raise StoppedError(error.error_string) from error


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A SoundFile that is read forward to wherever the data end.

    soundfile seeks after every read of a seekable file, which fails at the end of damaged files and
    takes what was just decoded with it.
    """

    def seekable(self) -> bool:
        return False
