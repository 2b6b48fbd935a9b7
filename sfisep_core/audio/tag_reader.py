"""Read the tags of audio files, within limits of time and memory.

Parsers of tags believe what a file claims: one megabyte may unpack to gigabytes, or take minutes.
So they run in a process of their own, which the system ends at the limits. Messages about a file's
tags are warnings: tags never stop a separation.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

from sfisep_core.audio.tag_parsing import WIDE_WAVES, parse_tags, read_info_list
from sfisep_core.audio.tags import NO_TAGS, Picture, Tags
from sfisep_core.foreign import shown
from sfisep_core.foundation.exit_signals import raise_received

_SECONDS = 10
_BYTES = 2**29
# What a FLAC file holds in one block, less the block's other fields.
_LARGEST_PICTURE = 2**24 - 2**16

# The child has the modules of this process, wherever they come from.
_PROGRAM = """
import sys
sys.path[:] = {path!r}
from sfisep_core.audio.tag_reader import answer
answer(sys.argv[1], seconds={seconds}, size={size})
"""

_logger = logging.getLogger(__name__)


def read_tags(path: Path) -> Tags:
    """Read the tags of a FLAC, MP3, Ogg, Opus, M4A, WAV or AIFF file.

    Damaged tags are no error: a warning says that they are left out. So are tags that take more
    than ten seconds or 512 MiB to read.

    Args:
        path: Audio file.

    Returns:
        Its tags; none for other formats.
    """
    try:
        tags = _parsed_elsewhere(path)
        if tags is None:
            with path.open("rb") as file:
                head = file.read(4)
            tags = read_info_list(path) if head in (b"RIFF", *WIDE_WAVES) else NO_TAGS
    except Exception as error:  # mutagen raises whatever a damaged file leads to
        raise_received()
        _logger.warning(
            "%r: its tags are damaged, and left out of the stems (%s): save them anew with a "
            "program for tags",
            *(str(path), shown(str(error))),
        )
        return NO_TAGS
    if tags.picture is not None and len(tags.picture.content) > _LARGEST_PICTURE:
        _logger.warning(
            "%r: its cover of %.1f MB is left out of the stems: expected at most %.1f MB",
            *(str(path), len(tags.picture.content) / 1e6, _LARGEST_PICTURE / 1e6),
        )
        return Tags(tags.texts)
    return tags


def answer(path: str, *, seconds: int, size: int) -> None:
    """Write the tags of a file to standard output as JSON; for a process of its own.

    Args:
        path: Audio file.
        seconds: CPU time after which the system ends this process.
        size: Bytes of memory that this process may have.
    """
    with contextlib.suppress(ImportError):  # Windows: the parent's limit of time remains
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    try:
        tags = parse_tags(Path(path))
    except Exception as error:
        raise_received()
        json.dump({"error": f"{type(error).__name__}: {error}"[:1000]}, sys.stdout)
        return
    if tags is None:
        json.dump({}, sys.stdout)
        return
    picture = tags.picture.content if tags.picture is not None else b""
    encoded = base64.b64encode(picture).decode()
    json.dump({"texts": dict(tags.texts), "picture": encoded}, sys.stdout)


def _parsed_elsewhere(path: Path) -> Tags | None:
    """Parse the tags in a process of its own.

    Raises:
        ValueError: They are damaged, or take too much.
    """
    program = _PROGRAM.format(path=sys.path, seconds=_SECONDS, size=_BYTES)
    try:
        done = subprocess.run(  # noqa: S603  # this Python, with a fixed program
            [sys.executable, "-S", "-c", program, str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * _SECONDS,  # of a clock, where other processes want the CPU, too
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _too_large() from error
    if done.returncode != 0:
        raise _too_large()
    content: dict[str, Any] = json.loads(done.stdout)
    if "error" in content:
        raise ValueError(content["error"])
    if not content:
        return None
    texts = {str(name): tuple(map(str, values)) for name, values in content["texts"].items()}
    picture = base64.b64decode(content["picture"])
    return Tags(texts, Picture(picture) if picture else None)


def _too_large() -> ValueError:
    return ValueError(f"reading them takes more than {_SECONDS} s or {_BYTES >> 20} MiB")
