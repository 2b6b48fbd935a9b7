"""Decide where the stems of each input go."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from sfisep_core.errors import ConfigError
from sfisep_core.separation.file_names import stem_file_name
from sfisep_core.separation.inputs import STANDARD_STREAM, STDIN_TRACK


def track_name(path: Path) -> str:
    """Return the name under which the stems of an input are stored."""
    return STDIN_TRACK if path == STANDARD_STREAM else path.stem


def check_outputs(paths: Sequence[Path], *, folder: Path, filename: str, suffix: str) -> None:
    """Check that no two inputs have the same stem files, and that no stem replaces an input.

    Args:
        paths: The inputs.
        folder: Folder of all stems.
        filename: Pattern of a stem's file in it, with {track}, {stem} and {ext}.
        suffix: Suffix of the stems, with its dot.

    Raises:
        ConfigError: There are such inputs, or the pattern is invalid.
    """
    by_place = defaultdict(list)
    for path in paths:
        name = stem_file_name(filename, track=track_name(path), stem="*", ext=suffix[1:])
        by_place[folder / name].append(path)
    for place, rivals in by_place.items():
        if len(rivals) > 1:
            where = place.parent if place.name == f"*{suffix}" else place
            msg = (
                f"{' and '.join(map(str, rivals))} would all write their stems to {where}: rename "
                "one of them, or separate them in runs with different --out"
            )
            raise ConfigError(msg)
    written = {os.path.realpath(place.parent) for place in by_place}
    for path in paths:
        places = {os.path.realpath(os.path.dirname(os.path.abspath(path)))}
        places.add(os.path.dirname(os.path.realpath(path)))
        if path.suffix.lower() == suffix and places & written:
            msg = f"{path} lies where stems are to be written and may be replaced: change --out"
            raise ConfigError(msg)
