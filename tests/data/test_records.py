"""Files of records that are changed one at a time."""

import json
from pathlib import Path

import pytest

from sfisep_core.data.records import RecordFile


class Counted:
    """A file of numbers that counts how much work it was."""

    def __init__(self) -> None:
        self.parsed = 0
        self.lines = 0
        self.file = RecordFile(self.parse, line=self.line, join=self.join, order=lambda key: key)

    def parse(self, path: Path) -> dict[str, tuple[int]]:
        self.parsed += 1
        return {key: (value,) for key, value in json.loads(path.read_text()).items()}

    def line(self, key: str, record: tuple[int]) -> str:
        self.lines += 1
        return f"{json.dumps(key)}: {record[0]}"

    @staticmethod
    def join(lines: list[str]) -> str:
        return f"{{{', '.join(lines)}}}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "numbers.json"


def test_each_record_is_written_out_once_and_own_files_are_not_parsed(path: Path) -> None:
    counted, records = Counted(), dict[str, tuple[int]]()
    for number in reversed(range(50)):
        counted.file.write(path, {**records, f"{number:02}": (number,)})
        records = counted.file.read(path)
    assert counted.lines == 50
    assert counted.parsed == 0
    assert list(json.loads(path.read_text()).items()) == [(f"{n:02}", n) for n in range(50)]
    assert list(records) == [f"{n:02}" for n in range(50)]


def test_changes_of_others_are_seen(path: Path) -> None:
    counted, other = Counted(), Counted()
    counted.file.write(path, {"a": (1,), "b": (2,)})
    other.file.write(path, {**other.file.read(path), "b": (3,)})
    assert counted.file.read(path) == {"a": (1,), "b": (3,)}
    counted.file.write(path, {**counted.file.read(path), "c": (4,)})
    assert json.loads(path.read_text()) == {"a": 1, "b": 3, "c": 4}
    path.unlink()
    with pytest.raises(FileNotFoundError):
        counted.file.read(path)


def test_what_was_read_may_be_changed(path: Path) -> None:
    counted = Counted()
    counted.file.write(path, {"a": (1,)})
    counted.file.read(path).clear()
    assert counted.file.read(path) == {"a": (1,)}


def test_record_that_was_replaced_is_written_anew(path: Path) -> None:
    counted = Counted()
    counted.file.write(path, {"a": (1,), "b": (2,)})
    counted.file.write(path, {"a": (5,), "b": (2,)})
    assert json.loads(path.read_text()) == {"a": 5, "b": 2}


def test_files_of_one_kind_are_kept_apart(tmp_path: Path) -> None:
    counted = Counted()
    counted.file.write(tmp_path / "one", {"a": (1,)})
    counted.file.write(tmp_path / "two", {"a": (2,)})
    assert counted.file.read(tmp_path / "one") == {"a": (1,)}
    assert counted.file.read(tmp_path / "two") == {"a": (2,)}
