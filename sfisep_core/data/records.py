"""Files of many small records: one file with all of them, and a journal of later changes.

Writing the whole file after each change would be quadratic in the number of records: 1.1 GB for a
data set of 2,000 tracks. Instead a change is appended to the journal as one line, and the file is
written once, at the end of a run.
"""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from sfisep_core.foundation.atomic import written_whole

Key = TypeVar("Key")
Record = TypeVar("Record")

_State = tuple[int, int, int]


@dataclass(frozen=True)
class _Content(Generic[Key, Record]):
    """Cached content: the state of both files, and the position in the journal (bytes)."""

    path: Path
    state: _State | None
    journal: int | None
    offset: int
    records: Mapping[Key, Record]


class RecordFile(Generic[Key, Record]):
    """Read and write files of one kind, each with its journal.

    `NAME.json` has the journal `.NAME.jsonl`. Each of its lines is `[key, record]`, or
    `[key, null]` where a record was removed; later lines take precedence. An incomplete last line,
    of a process that was killed, is ignored. Unchanged content is not parsed again, so that a data
    set of 20,000 tracks can be prepared with 20,000 changes; changes by other processes are read.

    Args:
        parse: Reads a whole file.
        line: Formats one record in the whole file.
        join: Joins these texts to a whole file.
        order: Sort key of records.
        encode: Converts a record to JSON values for the journal.
        decode: Converts the JSON values of a journal's line to key and record (None: removed).
    """

    def __init__(
        self,
        parse: Callable[[Path], Mapping[Key, Record]],
        *,
        line: Callable[[Key, Record], str],
        join: Callable[[list[str]], str],
        order: Callable[[Key], Any],
        encode: Callable[[Record], Any],
        decode: Callable[[Any, Any], tuple[Key, Record | None]],
    ) -> None:
        self._parse, self._line, self._join, self._order = parse, line, join, order
        self._encode, self._decode = encode, decode
        self._last: _Content[Key, Record] | None = None

    def read(self, path: Path, *, again: bool = False) -> dict[Key, Record]:
        """Read the records of a file and its journal.

        Args:
            path: The file; there may be only its journal.
            again: Whether to parse everything, even if it seems unchanged.

        Returns:
            The records, in their order.

        Raises:
            FileNotFoundError: Neither file nor journal exists.
            OSError: They cannot be read.
            ValueError: A line of the journal is invalid.
            Exception: Any exception of `parse`.
        """
        last = self._last
        if again or (last is not None and last.path != path):
            last = None
        with contextlib.ExitStack() as stack:
            # The journal is opened before the file is read. If another process writes the whole
            # file in between, it already contains these lines, and applying them again has no
            # effect. In the opposite order lines could be missing from both.
            journal: BinaryIO | None = None
            with contextlib.suppress(FileNotFoundError):
                journal = stack.enter_context(journal_path(path).open("rb"))
            inode = None if journal is None else os.fstat(journal.fileno()).st_ino
            state = _state(path)
            if state is None and journal is None:
                raise FileNotFoundError(2, os.strerror(2), str(path))
            if last is None or last.state != state or last.journal not in (None, inode):
                records = dict(self._parse(path)) if state is not None else {}
                last = _Content(path, state, None, 0, records)
            if journal is not None:
                offset = last.offset if last.journal == inode else 0
                last = self._with_lines(last, journal, inode, offset)
        self._last = last
        return {key: last.records[key] for key in sorted(last.records, key=self._order)}

    def _with_lines(
        self, last: _Content[Key, Record], journal: BinaryIO, inode: int | None, offset: int
    ) -> _Content[Key, Record]:
        journal.seek(offset)
        new = journal.read()
        new = new[: new.rfind(b"\n") + 1]
        records = dict(last.records)
        for line in new.splitlines():
            try:
                key, value = json.loads(line)
                name, record = self._decode(key, value)
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                msg = f"{journal_path(last.path)}: not a line of its journal: {error}"
                raise ValueError(msg) from error
            if record is None:
                records.pop(name, None)
            else:
                records[name] = record
        return _Content(last.path, last.state, inode, offset + len(new), records)

    def append(self, path: Path, changes: Mapping[Key, Record | None]) -> None:
        """Append changes to the journal. No other process may write meanwhile.

        Args:
            path: The file.
            changes: New records by key; None removes one.

        Raises:
            OSError: The journal cannot be written.
        """
        lines = [
            json.dumps([key, None if record is None else self._encode(record)]) + "\n"
            for key, record in changes.items()
        ]
        with journal_path(path).open("ab+", buffering=0) as journal:
            _cut_torn_line(journal)
            journal.write("".join(lines).encode())

    def write(self, path: Path, records: Mapping[Key, Record]) -> None:
        """Write the whole file, and remove its journal. No other process may write meanwhile.

        Raises:
            OSError: It cannot be written; the journal is then kept.
        """
        ordered = {key: records[key] for key in sorted(records, key=self._order)}
        write_text(path, self._join([self._line(key, ordered[key]) for key in ordered]))
        journal_path(path).unlink(missing_ok=True)
        self._last = _Content(path, _state(path), None, 0, ordered)


def journal_path(path: Path) -> Path:
    """Return the path of a file's journal, a hidden file in the same folder."""
    return path.with_name(f".{path.name.removeprefix('.')}l")


def _cut_torn_line(journal: BinaryIO) -> None:
    """Remove an incomplete line of a killed process."""
    size = journal.seek(0, os.SEEK_END)
    if size == 0:
        return
    journal.seek(size - 1)
    if journal.read(1) != b"\n":
        journal.seek(0)
        journal.truncate(journal.read().rfind(b"\n") + 1)


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: it gets its name only when it is complete.

    Raises:
        OSError: It cannot be written.
    """
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an indented JSON file like `write_text`.

    Raises:
        OSError: It cannot be written.
    """
    write_text(path, json.dumps(content, indent=1))


def _state(path: Path) -> _State | None:
    """Return a state that changes when a file is replaced or written; None without a file."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
