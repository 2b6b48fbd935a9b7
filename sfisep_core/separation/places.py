"""Decide where the stems of each input go."""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import get_args

from sfisep_core.audio.formats import STEM_MP4
from sfisep_core.errors import ConfigError
from sfisep_core.separation.file_names import stem_file_name, stem_pattern
from sfisep_core.separation.inputs import STANDARD_STREAM, STDIN_TRACK, InputFile
from sfisep_core.separation.output import RESIDUAL, WITHOUT_VOCALS, Container, Output

BESIDE = Path("beside")
"""Stands for the folder of each input instead of one folder for all stems."""

# A child of the logger whose messages the command shows.
_logger = logging.getLogger("sfisep_core.inputs")


@dataclass(frozen=True)
class Place:
    """Where the stems of one input go.

    Attributes:
        path: The input.
        folder: Folder to which the pattern is relative.
        track: Name of the input in the stems' names.
        filename: Pattern of a stem's file, with {track}, {stem} and {ext}.
    """

    path: Path
    folder: Path
    track: str
    filename: str

    def file(self, stem: str, ext: str) -> Path:
        """Return the file of a stem."""
        return self.folder / stem_file_name(self.filename, track=self.track, stem=stem, ext=ext)


def choose_places(
    files: Sequence[InputFile], *, out: Path, model: str, output: Output
) -> list[Place]:
    """Decide where the stems of each input go.

    A folder that was given as input is mirrored below OUT/MODEL. Inputs that differ in their suffix
    alone are told apart by it.

    Args:
        files: The inputs.
        out: Folder of all stems, or `BESIDE`.
        model: Name of the model's folder.
        output: The pattern of the stems' files, and their format.

    Returns:
        One place for each input, in their order.

    Raises:
        ConfigError: Two inputs would have the same stem files, a stem may replace an input, the
            pattern is invalid, or standard input is to have its stems beside it.
    """
    date = _today()
    places = [_place(file, out=out, model=model, output=output, date=date) for file in files]
    places = _told_apart(places, output.container)
    _check_places(places, output.container)
    if out != BESIDE:  # where it is usual that stems lie in the folder of an input
        _check_inputs(places, output.container)
    return places


def without_stems(
    files: Sequence[InputFile], *, model: str, output: Output, sources: Iterable[str]
) -> list[InputFile]:
    """Leave out stems that an earlier run has written beside its inputs.

    Args:
        files: Inputs; those that the user named themselves are never left out.
        model: Name of the model's folder.
        output: The pattern of the stems' files.
        sources: Names of stems.
    """
    names = {*sources, *(f"no_{source}" for source in sources), *WITHOUT_VOCALS, RESIDUAL}
    # Stems of other formats are told by their names; a stem file has that of its input.
    is_stem_file = output.container == STEM_MP4
    endings = [ext for ext in get_args(Container) if (ext == STEM_MP4) == is_stem_file]
    stems = set()
    for file in files:
        place = _place(file, out=BESIDE, model=model, output=output, date=_today())
        for track in (place.track, _long_name(file.path)):
            stems |= {
                os.path.abspath(replace(place, track=track).file(name, ext))
                for name in names
                for ext in endings
            }
    kept = [file for file in files if file.below is None or os.path.abspath(file.path) not in stems]
    if len(kept) < len(files):
        _logger.info("left out %d stems of other inputs", len(files) - len(kept))
    return kept


def _place(file: InputFile, *, out: Path, model: str, output: Output, date: str) -> Place:
    """Return the place of an input that shares its name with no other."""
    path = file.path
    if path == STANDARD_STREAM and out == BESIDE:
        msg = "--out beside: standard input lies in no folder: name a folder with --out"
        raise ConfigError(msg)
    if path == STANDARD_STREAM:
        track = parent = STDIN_TRACK
    else:
        track, parent = path.stem, Path(os.path.abspath(path)).parent.name or "root"
    folder = path.parent if out == BESIDE else out / model / (file.below or "")
    values = {"parent": parent, "model": model, "date": date}
    return Place(path, folder, track, stem_pattern(output.filename, values))


def _today() -> str:
    return f"{datetime.now().astimezone():%Y-%m-%d}"


def _long_name(path: Path) -> str:
    """Return the name of an input with its suffix, and yet not that of the file itself."""
    return "-".join([path.stem, *filter(None, [path.suffix[1:]])])


def _rivals(places: Iterable[Place], ext: str) -> dict[Path, list[Place]]:
    """Return the inputs that have the same stem files, by a pattern of these."""
    by_file = defaultdict(list)
    for place in places:
        by_file[place.file("*", ext)].append(place)
    return {file: rivals for file, rivals in by_file.items() if len(rivals) > 1}


def _told_apart(places: Sequence[Place], ext: str) -> list[Place]:
    """Append the suffixes of inputs to the names of those that would have the same stem files."""
    tracks = {place.path: place.track for place in places}
    named = list(places)
    while True:  # the longer names may meet others
        changed = False
        for rivals in _rivals(named, ext).values():
            suffixes = {place.path.suffix for place in rivals}
            if len(suffixes) < len(rivals):  # in different folders
                continue
            for place in rivals:
                changed |= tracks[place.path] != _long_name(place.path)
                tracks[place.path] = _long_name(place.path)
        if not changed:
            break
        named = [replace(place, track=tracks[place.path]) for place in places]
    for before, after in zip(places, named, strict=True):
        if before.track != after.track:
            _logger.info(
                "%s: its track is called %s, because another input is called %s, too",
                *(after.path, after.track, before.track),
            )
    return named


def _check_places(places: Sequence[Place], ext: str) -> None:
    """Check that no two inputs have the same stem files.

    Raises:
        ConfigError: There are such inputs.
    """
    for file, rivals in _rivals(places, ext).items():
        where = file.parent if file.name == f"*.{ext}" else file
        msg = (
            f"{' and '.join(str(place.path) for place in rivals)} would all write their stems to "
            f"{where}: rename one of them, or tell them apart by their folders, as --filename "
            '"{parent}/{track}/{stem}.{ext}" does'
        )
        raise ConfigError(msg)


def _check_inputs(places: Sequence[Place], ext: str) -> None:
    """Check that no input lies where stems are written.

    Raises:
        ConfigError: An input does.
    """
    written = {os.path.realpath(place.file("*", ext).parent) for place in places}
    for path in (place.path for place in places):
        folders = {os.path.realpath(os.path.dirname(os.path.abspath(path)))}
        folders.add(os.path.dirname(os.path.realpath(path)))
        if path.name.lower().endswith(f".{ext}") and folders & written:
            msg = f"{path} lies where stems are to be written and may be replaced: change --out"
            raise ConfigError(msg)
