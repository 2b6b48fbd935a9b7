"""Remember the data set that was prepared last, as the default."""

import os
from pathlib import Path

import platformdirs

from sfisep_core.data.manifest import MANIFEST_NAME
from sfisep_core.data.records import write_json
from sfisep_core.errors import DatasetError
from sfisep_core.foreign import Fields, read_json_object

VARIABLE = "SFISEP_DATA"

_HELP = (
    "prepare one with `sfisep prepare-data SOURCE --out DIR`, let one be composed with `sfisep "
    "prepare-data --demo DIR`, or name one that is prepared with `--data DIR`"
)


def remember_dataset(folder: Path) -> None:
    """Remember a prepared data set as the last one, in the user data folder.

    Raises:
        DatasetError: The user data folder cannot be written.
    """
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"folder": str(folder.resolve())})
    except OSError as error:
        msg = (
            f"cannot remember {folder} in {path}: {error.strerror}; name it with --data DIR, or "
            f"set {VARIABLE}"
        )
        raise DatasetError(msg) from error


def find_dataset(folder: Path | None) -> Path:
    """Return the prepared data set to use.

    Args:
        folder: The data set named by the user; None = that of the environment variable SFISEP_DATA,
            or else the one prepared last.

    Returns:
        Its folder.

    Raises:
        DatasetError: None is named and none was prepared, or the folder is missing or not a data
            set.
    """
    if folder is not None:
        return _checked(folder, "which --data names")
    named = os.environ.get(VARIABLE)
    if named:
        return _checked(Path(named), f"which {VARIABLE} names")
    try:
        record = Fields(read_json_object(_path()), "record")
        folder = Path(record.text("folder"))
    except FileNotFoundError as error:
        msg = f"no data set: none is named, and none has been prepared yet: {_HELP}"
        raise DatasetError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"no data set: none is named, and the last is not known ({_path()}: {error}): {_HELP}"
        raise DatasetError(msg) from error
    return _checked(folder, "the last that was prepared")


def _checked(folder: Path, which: str) -> Path:
    if not (folder / MANIFEST_NAME).is_file():
        actual = "a folder without one" if folder.is_dir() else "no such folder"
        msg = f"data set {folder}, {which}: expected {MANIFEST_NAME}, found {actual}: {_HELP}"
        raise DatasetError(msg)
    return folder


def _path() -> Path:
    return Path(platformdirs.user_data_dir("sfisep")) / "dataset.json"
