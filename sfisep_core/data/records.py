"""Files of many small records, which are read and written again after each change of one."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sfisep_core.atomic import written_whole

Key = TypeVar("Key")
Record = TypeVar("Record")


@dataclass(frozen=True)
class _Content(Generic[Key, Record]):
    path: Path
    state: tuple[int, int, int]
    records: Mapping[Key, Record]
    lines: Mapping[Key, str]


class RecordFile(Generic[Key, Record]):
    """Read and write files of one kind; what was last read or written is not parsed again.

    A data set of 20,000 tracks is prepared in 20,000 changes: without this the time would go into
    parsing what this process has written itself. A file that anybody else has replaced is read.

    Args:
        parse: Reads a whole file.
        line: Gives the text of one record.
        join: Makes a file of the texts.
        order: By what records are sorted.
    """

    def __init__(
        self,
        parse: Callable[[Path], Mapping[Key, Record]],
        *,
        line: Callable[[Key, Record], str],
        join: Callable[[list[str]], str],
        order: Callable[[Key], Any],
    ) -> None:
        self._parse, self._line, self._join, self._order = parse, line, join, order
        self._last: _Content[Key, Record] | None = None

    def read(self, path: Path) -> dict[Key, Record]:
        """Give the records of a file.

        Raises:
            OSError: There is none.
            Exception: Whatever `parse` raises.
        """
        state = _state(path)
        if self._last is None or (self._last.path, self._last.state) != (path, state):
            self._last = _Content(path, state, self._parse(path), {})
        return dict(self._last.records)

    def write(self, path: Path, records: Mapping[Key, Record]) -> None:
        """Replace a file; it has its name only when it is complete.

        Raises:
            OSError: It cannot be written.
        """
        last = self._last if self._last is not None and self._last.path == path else None
        lines = {}
        for key in sorted(records, key=self._order):
            same = last is not None and last.records.get(key) is records[key]
            known = last.lines.get(key) if same and last is not None else None
            lines[key] = known or self._line(key, records[key])
        write_text(path, self._join(list(lines.values())))
        self._last = _Content(path, _state(path), {key: records[key] for key in lines}, lines)


def write_text(path: Path, text: str) -> None:
    """Write a file that has its name only when it is complete.

    Raises:
        OSError: It cannot be written.
    """
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file as `write_text` does, indented for people.

    Raises:
        OSError: It cannot be written.
    """
    write_text(path, json.dumps(content, indent=1))


def _state(path: Path) -> tuple[int, int, int]:
    """Give what differs after a file was replaced or written again."""
    stat = os.stat(path)
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
