"""Files of records that are changed one at a time."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sfisep_core.data.records import RecordFile, journal_path


@dataclass(frozen=True)
class Number:
    value: int


def numbers(**values: int) -> dict[str, Number]:
    return {name: Number(value) for name, value in values.items()}


class Counted:
    """A file of numbers that counts how much work it was."""

    def __init__(self) -> None:
        self.parsed = 0
        self.decoded = 0
        self.file = RecordFile(
            self.parse,
            line=lambda key, record: f"{json.dumps(key)}: {record.value}",
            join=lambda lines: f"{{{', '.join(lines)}}}",
            order=lambda key: key,
            encode=vars,
            decode=self.decode,
        )

    def parse(self, path: Path) -> dict[str, Number]:
        self.parsed += 1
        return numbers(**json.loads(path.read_text()))

    def decode(self, key: Any, value: Any) -> tuple[str, Number | None]:
        self.decoded += 1
        return key, None if value is None else Number(value["value"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "numbers.json"


def test_each_change_is_written_once_and_parsed_once(path: Path) -> None:
    counted = Counted()
    for number in reversed(range(50)):
        counted.file.append(path, numbers(**{f"{number:02}": number}))
        records = counted.file.read(path)
    assert (counted.parsed, counted.decoded) == (0, 50)
    assert list(records) == [f"{n:02}" for n in range(50)]
    assert not path.exists()
    assert len(journal_path(path).read_bytes().splitlines()) == 50


def test_finished_file_is_sorted_and_has_no_journal(path: Path) -> None:
    counted = Counted()
    counted.file.append(path, numbers(b=2, a=1))
    counted.file.append(path, {"c": Number(3), "b": None})
    counted.file.write(path, counted.file.read(path))
    assert list(json.loads(path.read_text()).items()) == [("a", 1), ("c", 3)]
    assert not journal_path(path).exists()
    assert counted.file.read(path) == numbers(a=1, c=3)
    assert counted.parsed == 0
    assert Counted().file.read(path) == numbers(a=1, c=3)


def test_file_without_a_journal_is_read_as_before(path: Path) -> None:
    path.write_text('{"b": 2, "a": 1}')
    assert list(Counted().file.read(path).items()) == list(numbers(a=1, b=2).items())


def test_changes_of_others_are_seen(path: Path) -> None:
    counted, other = Counted(), Counted()
    counted.file.append(path, numbers(a=1, b=2))
    other.file.append(path, numbers(b=3))
    assert counted.file.read(path) == numbers(a=1, b=3)
    other.file.write(path, other.file.read(path))
    assert counted.file.read(path) == numbers(a=1, b=3)
    other.file.append(path, {"a": None})
    counted.file.append(path, numbers(c=4))
    assert counted.file.read(path) == other.file.read(path) == numbers(b=3, c=4)
    journal_path(path).unlink()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        counted.file.read(path)


def test_a_run_that_is_killed_before_it_removes_the_journal_loses_nothing(path: Path) -> None:
    counted = Counted()
    counted.file.append(path, numbers(a=1, b=2))
    counted.file.append(path, {"a": None, "c": Number(3)})
    journal = journal_path(path).read_bytes()
    counted.file.write(path, counted.file.read(path))
    journal_path(path).write_bytes(journal)
    assert Counted().file.read(path) == numbers(b=2, c=3)


@pytest.mark.parametrize("torn", [b'["c", {"val', b"[", b'["c", {"value": 3}]'])
def test_a_line_without_its_end_is_as_none(torn: bytes, path: Path) -> None:
    counted = Counted()
    counted.file.append(path, numbers(a=1))
    with journal_path(path).open("ab") as journal:
        journal.write(torn)
    assert counted.file.read(path) == numbers(a=1)
    counted.file.append(path, numbers(b=2))
    assert counted.file.read(path) == Counted().file.read(path) == numbers(a=1, b=2)
    journal_path(path).write_bytes(torn)  # and nothing but that
    Counted().file.append(path, numbers(d=4))
    assert Counted().file.read(path) == numbers(d=4)


@pytest.mark.parametrize("line", ["x", "[]", "3", '["a", {"value": []', "[" * 100000, "null"])
def test_line_that_is_none_of_its_own_is_told(line: str, path: Path) -> None:
    journal_path(path).write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"\.numbers\.jsonl: not a line of its journal") as raised:
        Counted().file.read(path)
    assert len(str(raised.value)) < 300


def test_what_was_read_may_be_changed(path: Path) -> None:
    counted = Counted()
    counted.file.append(path, numbers(a=1))
    counted.file.read(path).clear()
    assert counted.file.read(path) == numbers(a=1)


def test_reading_again_parses_what_seems_unchanged(path: Path) -> None:
    counted = Counted()
    path.write_text('{"a": 1}')
    before = path.stat()
    counted.file.read(path)
    path.write_text('{"a": 2}')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert counted.file.read(path) == numbers(a=1)
    assert counted.file.read(path, again=True) == numbers(a=2)


def test_files_of_one_kind_are_kept_apart(tmp_path: Path) -> None:
    counted = Counted()
    counted.file.append(tmp_path / "one", numbers(a=1))
    counted.file.append(tmp_path / "two", numbers(a=2))
    assert counted.file.read(tmp_path / "one") == numbers(a=1)
    assert counted.file.read(tmp_path / "two") == numbers(a=2)
