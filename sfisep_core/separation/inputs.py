"""Resolve a user's inputs to files."""

import glob
import logging
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from sfisep_core.errors import AudioFileError

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".wav", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".ogv", ".opus", ".spx", ".mp3", ".mp2",
    ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".voc", ".m4a", ".m4b", ".mp4", ".m4v", ".mov",
    ".3gp", ".aac", ".ac3", ".eac3", ".dts", ".amr", ".ape", ".mpc", ".wv", ".tta", ".tak", ".wma",
    ".asf", ".wmv", ".mkv", ".mka", ".webm", ".avi", ".flv", ".ts", ".m2ts", ".mpg", ".mpeg",
})
# fmt: on
STANDARD_STREAM = Path("-")

STDIN_TRACK = "stdin"

# A child of the logger whose messages the command shows.
_logger = logging.getLogger("sfisep_core.inputs")


@dataclass(frozen=True)
class InputFile:
    """A file to separate.

    Attributes:
        path: The file as the user would write it, or "-".
        below: Its folder relative to the folder, or to the fixed part of the pattern, that was
            given; None for a file that was named itself.
    """

    path: Path
    below: Path | None = None


def find_files(
    inputs: Sequence[Path], *, outputs: tuple[Path, ...]
) -> tuple[list[InputFile], dict[Path, str]]:
    """Replace folders by the audio files in them, and patterns by the matching files.

    Stems of an earlier run are not inputs: where an input folder contains one of the `outputs`,
    that output folder is left out.

    Args:
        inputs: Files, folders, patterns with `*`, `?` or `[...]`, and "-" for standard input.
        outputs: Folders to write to.

    Returns:
        The files without duplicates, and a message for every input that matches no file.
    """
    files: dict[str, InputFile] = {}  # by absolute path
    failures: dict[Path, str] = {}
    for path in inputs:
        # os.path returns False where pathlib raises: a name too long, a folder without permission.
        root: Path | None = path
        if os.path.isdir(path):
            matches = _audio_files_in(path, outputs=outputs, failures=failures)
            if not matches:
                failures[path] = (
                    f"{path}: no audio file in this folder or below; looked for "
                    f"{' '.join(sorted(AUDIO_SUFFIXES))}"
                )
        elif os.path.exists(path) or path == STANDARD_STREAM:
            matches, root = [path], None
        else:
            root = _fixed_part(path)
            matches = _files_of_pattern(str(path), root, outputs=outputs)
            if not matches:
                failures[path] = _missing(str(path))
        for file in matches:
            if file.stem in (".", ".."):
                failures[file] = f"{file}: no folder can have the name {file.stem!r}: rename it"
                continue
            below = None if root is None else _below(file, root)
            files.setdefault(os.path.abspath(file), InputFile(file, below))
    return list(files.values()), failures


def _below(file: Path, root: Path) -> Path:
    """Return the folder of a file relative to a folder above it."""
    below = Path(os.path.relpath(file.parent, root))
    return below if ".." not in below.parts else Path()  # of a pattern such as "x/*/../../*.wav"


def _fixed_part(pattern: Path) -> Path:
    """Return the folder of a pattern in which the search starts."""
    return Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))


def _files_of_pattern(pattern: str, root: Path, *, outputs: tuple[Path, ...]) -> list[Path]:
    """Return the files that match a pattern, sorted.

    Files in output folders are left out, unless the pattern starts in one.
    """
    matches = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    start = Path(os.path.realpath(root))
    skipped = [Path(os.path.realpath(output)) for output in outputs]
    skipped = [output for output in skipped if not start.is_relative_to(output)]
    return [
        file
        for file in matches
        if os.path.isfile(file)
        and not any(Path(os.path.realpath(file)).is_relative_to(output) for output in skipped)
    ]


def _audio_files_in(
    folder: Path, *, outputs: tuple[Path, ...], failures: dict[Path, str]
) -> list[Path]:
    """Return the audio files in a folder and below, sorted; record folders that cannot be read.

    Output folders are left out, and so are hidden files and folders, which are other programs'
    metadata or incomplete files. Other files that are passed over are logged.
    """
    root = os.path.realpath(folder)
    # Links to folders are followed, each folder once, so that circular links end.
    skipped = {os.path.realpath(output) for output in outputs} | {root}
    audio_files = []
    passed_over: Counter[str] = Counter()

    def fail(error: OSError) -> None:
        path = Path(error.filename)
        failures[path] = (
            f"{path}: expected a folder that can be read, got {error.strerror}: give access to it, "
            "or leave it out"
        )

    for place, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        taken = []
        for name in sorted(folders):
            if name.startswith("."):
                passed_over["hidden folders"] += 1
                continue
            real = os.path.realpath(f"{place}/{name}")
            if real not in skipped:
                skipped.add(real)
                taken.append(name)
        folders[:] = taken
        for name in names:
            path = Path(place, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                passed_over[path.suffix.lower() or "no suffix"] += 1
                continue
            if os.path.isfile(path):
                audio_files.append(path)
            elif not os.path.exists(path):
                failures[path] = f"{path}: a link to a file that is not there: mend or remove it"
    if audio_files and passed_over:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(passed_over.items()))
        _logger.info("%s: passed over what is not named as audio: %s", folder, kinds)
    return sorted(audio_files)


@contextmanager
def on_disk(path: Path) -> Iterator[Path]:
    """Yield the file of an input: standard input is first copied to a temporary file.

    Raises:
        AudioFileError: There is not enough space for it.
    """
    if path != STANDARD_STREAM:
        yield path
        return
    from sfisep_core.foundation.temporary_folders import temporary_folder  # imports locks

    with temporary_folder() as folder:
        copy = folder / STDIN_TRACK
        if sys.stdin is None:
            msg = (
                "standard input: expected audio, found none: it is closed: name a file instead of -"
            )
            raise AudioFileError(msg)
        try:
            with copy.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        except OSError as error:
            msg = (
                f"standard input: expected room for a copy in {folder}, got {error.strerror}: free "
                "some, or set TMPDIR to another folder"
            )
            raise AudioFileError(msg) from error
        yield copy


def _missing(name: str) -> str:
    address = re.match(r"(\w+):/(?!/)", name)  # as pathlib writes one
    if address is not None:
        return f"{name.replace(':/', '://', 1)}: expected a file, got an address: download it first"
    return f"{name}: no such file or folder; for music to begin with, run `sfisep demo`"
