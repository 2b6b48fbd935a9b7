"""Open files with libsndfile for sequential reading."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import soundfile

from sfisep_core.audio.source_files import FileView


class StoppedError(Exception):
    """libsndfile cannot continue, or cannot read this file at all."""


def open_sequential(raw: io.FileIO | FileView, form: Mapping[str, Any] | None = None) -> Any:
    """Open a file.

    Args:
        raw: The file, or a part of one; it stays open, and its position changes.
        form: soundfile's arguments for samples without a header; None = there is a header.

    Returns:
        A SoundFile; the caller closes it.

    Raises:
        StoppedError: libsndfile cannot read it.
    """
    raw.seek(0)
    try:
        # With a descriptor libsndfile detects the format from the content, never from the name.
        source = raw.fileno() if isinstance(raw, io.FileIO) else raw
        return _SequentialFile(source, closefd=False, **(form or {}))
    except soundfile.LibsndfileError as error:
        raise StoppedError(error.error_string) from error


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A SoundFile that is read sequentially up to the actual end of the data.

    soundfile seeks after every read of a seekable file. At the end of damaged files this fails, and
    the samples just decoded are lost.
    """

    def seekable(self) -> bool:
        return False
