"""Take what comes from outside, in files and in names, with types, limits and short messages."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from sfisep_core.errors import DatasetError

_SHOWN = 100  # characters of a foreign value in a message
# Of a JSON file: the manifest of 100,000 tracks has about 200 MB.
_MAX_BYTES = 2**30
# What numpy and file formats count samples with.
MAX_COUNT = 2**53


def shown(value: object) -> str:
    """Show a foreign value in a message: escaped, and not longer than 100 characters."""
    # A prefix: the repr of a long text is longer still.
    text = repr(value[: _SHOWN + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def path_below(folder: Path, *names: str) -> Path:
    """Make a path of a folder and names from outside, each one file or folder.

    This is the only way from names in data sets to paths: what could lead out of the folder is
    refused.

    Args:
        folder: Where to begin.
        names: Names of one path part each.

    Raises:
        DatasetError: A name is empty, `.` or `..`, or holds a separator, a NUL or half a surrogate
            pair.
    """
    path = folder
    for name in names:
        separators = {"/", "\0", os.sep, os.altsep or os.sep}
        if name in ("", ".", "..") or any(separator in name for separator in separators):
            msg = (
                f"name {shown(name)}: expected a name of one file or folder, without separators, "
                f"to be used in {folder}: rename it"
            )
            raise DatasetError(msg)
        path /= name
        # A drive or a stream, where systems have these.
        if path.name != name or not _is_encodable(name):
            msg = f"name {shown(name)}: no file or folder in {folder} can have it: rename it"
            raise DatasetError(msg)
    return path


def _is_encodable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        ValueError: It is too large, no JSON, nested too deep, or no object.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        msg = f"expected at most {_MAX_BYTES} bytes, got {size}"
        raise ValueError(msg)
    try:
        content = json.loads(path.read_bytes())
    except UnicodeDecodeError as error:  # its own message quotes the whole file
        msg = f"expected text in UTF-8, got the byte {error.object[error.start]} at {error.start}"
        raise ValueError(msg) from error
    except RecursionError as error:
        msg = "expected JSON of a few levels, got thousands"
        raise ValueError(msg) from error
    if not isinstance(content, dict):
        msg = f"expected a JSON object, got {shown(content)}"
        raise ValueError(msg)
    return content


class Fields:
    """The fields of a JSON object, each read with its type and range.

    Args:
        values: The object.
        where: What it describes, for messages.

    Raises:
        ValueError: It is no object.
    """

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, Mapping):
            msg = f"{where}: expected an object, got {shown(values)}"
            raise ValueError(msg)
        self._values, self._where = values, where

    def check_names(self, known: frozenset[str]) -> None:
        """Refuse fields of other names.

        Raises:
            ValueError: There is one.
        """
        unknown = sorted(str(name) for name in self._values.keys() - known)
        if unknown:
            msg = f"{self._where}: unexpected field {shown(unknown[0])}"
            raise ValueError(msg)

    def text(self, name: str, *, default: str | None = None) -> str:
        """Read a text; without a default it has to be there.

        Raises:
            ValueError: It is not there, or of another type.
        """
        value = self._get(name, default)
        if not isinstance(value, str):
            self.refuse(name, "a text", value)
        return value

    def count(self, name: str, *, least: int, most: int = MAX_COUNT) -> int:
        """Read a whole number from `least` to `most`.

        Raises:
            ValueError: It is not there, of another type, or out of range.
        """
        value = self._get(name, None)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(name, f"a whole number from {least} to {most}", value)
        return value

    def table(self, name: str, kind: type, *, default: Mapping[str, Any] | None = None) -> Any:
        """Read an object whose values all have one type.

        Raises:
            ValueError: It is not there, of another type, or one of its values is.
        """
        value = self._get(name, default)
        if not isinstance(value, dict):
            self.refuse(name, "an object", value)
        for key, item in value.items():
            if not isinstance(item, kind):
                self.refuse(f"{name}.{key[:_SHOWN]}", f"a {kind.__name__}", item)
        return value

    def refuse(self, name: str, expected: str, value: object) -> NoReturn:
        """Say which field is wrong.

        Raises:
            ValueError: Always.
        """
        got = "nothing" if value is None else shown(value)
        msg = f"{self._where}: {name}: expected {expected}, got {got}"
        raise ValueError(msg)

    def _get(self, name: str, default: object) -> object:
        value = self._values.get(name)
        return default if value is None else value
