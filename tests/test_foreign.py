"""What comes from outside: names, JSON files and their fields."""

import os
from pathlib import Path

import pytest

from sfisep_core.errors import DatasetError
from sfisep_core.foreign import Fields, path_below, read_json_object, shown


@pytest.mark.parametrize(
    "name", ["a", "a b", "..a", "a..", "...", ".hidden", "ä", "CON", "x" * 255]
)
def test_names_of_one_part_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    assert path_below(tmp_path, "train", name) == tmp_path / "train" / name


@pytest.mark.parametrize("name", ["", ".", "..", "/", "/abs", "../x", "a/b", "a/", "a\0", "a/../b"])
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    for names in ((name,), ("train", name), (name, "song")):
        with pytest.raises(DatasetError, match=r"expected a name of one file or folder"):
            path_below(tmp_path, *names)


def test_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no file or folder in .* can have it"):
        path_below(tmp_path, "half a pair: \ud800")
    # What Linux gives for a name that is not UTF-8 is one that a file can have.
    assert path_below(tmp_path, "\udcff") == tmp_path / "\udcff"


def test_shown_values_are_short_and_escaped() -> None:
    assert shown("a\x1b[31m\n") == "'a\\x1b[31m\\n'"
    assert shown(3) == "3"
    for value in ("x" * 10**6, b"x" * 10**6, ["x" * 10**6], 10**4000):
        assert len(shown(value)) == 103
        assert shown(value).endswith("...")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"\xff", "expected text in UTF-8, got the byte 255 at 0"),
        (b"[1]", r"expected a JSON object, got \[1\]"),
        (b"[" * 10**6, "expected JSON of a few levels"),
        (b'{"a": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
    ],
)
def test_json_that_is_none_is_told_shortly(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        read_json_object(tmp_path / "x.json")
    assert len(str(raised.value)) < 200


def test_json_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        os.ftruncate(file.fileno(), 2**31)  # a hole: the disk holds none of it
    with pytest.raises(ValueError, match="expected at most"):
        read_json_object(tmp_path / "x.json")


def test_fields_have_types_and_ranges() -> None:
    fields = Fields({"text": "a", "count": 3, "table": {"a": 1}, "none": None}, "here")
    assert fields.text("text") == "a"
    assert fields.text("absent", default="b") == fields.text("none", default="b") == "b"
    assert fields.count("count", least=3, most=3) == 3
    assert fields.table("table", int) == {"a": 1}
    for refused, message in (
        (lambda: fields.text("count"), "here: count: expected a text, got 3"),
        (lambda: fields.text("absent"), "here: absent: expected a text, got nothing"),
        (lambda: fields.count("count", least=4), "here: count: expected a whole number from 4"),
        (lambda: fields.count("text", least=0), "here: text: expected a whole number"),
        (lambda: fields.table("text", int), "here: text: expected an object, got 'a'"),
        (lambda: fields.table("table", str), r"here: table\.a: expected a str, got 1"),
        (lambda: fields.check_names(frozenset({"text"})), "here: unexpected field 'count'"),
        (lambda: Fields([], "here"), r"here: expected an object, got \[\]"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
    with pytest.raises(ValueError, match="got True"):  # JSON's true is no number
        Fields({"count": True}, "here").count("count", least=0)
