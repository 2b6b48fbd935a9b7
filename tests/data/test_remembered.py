from pathlib import Path

import platformdirs
import pytest

from sfisep_core.data.manifest import MANIFEST_NAME
from sfisep_core.data.remembered import find_dataset, remember_dataset
from sfisep_core.errors import DatasetError

HELP = (
    "prepare one with `sfisep prepare-data SOURCE --out DIR`, let one be composed with `sfisep "
    "prepare-data --demo DIR`, or name one that is prepared with `--data DIR`"
)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    folder.mkdir()
    (folder / MANIFEST_NAME).touch()
    return folder


def test_named_then_variable_then_remembered(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_dataset(prepared)
    assert find_dataset(None) == prepared
    other = tmp_path / "other"
    other.mkdir()
    (other / MANIFEST_NAME).touch()
    monkeypatch.setenv("SFISEP_DATA", str(other))
    assert find_dataset(None) == other
    with pytest.raises(DatasetError, match=r"/named, which --data names: .*no such folder"):
        find_dataset(tmp_path / "named")
    assert find_dataset(prepared) == prepared
    monkeypatch.setenv("SFISEP_DATA", "")  # is as none
    assert find_dataset(None) == prepared
    remember_dataset(other)
    assert find_dataset(None) == other


def test_relative_folder_is_remembered_for_wherever_the_next_command_runs(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared.parent)
    remember_dataset(Path("prepared"))
    monkeypatch.chdir("/")
    assert find_dataset(None) == prepared


def test_nothing_is_remembered() -> None:
    with pytest.raises(DatasetError) as raised:
        find_dataset(None)
    assert str(raised.value) == (
        f"no data set: none is named, and none has been prepared yet: {HELP}"
    )


def test_remembered_data_set_that_is_gone(prepared: Path) -> None:
    remember_dataset(prepared)
    (prepared / MANIFEST_NAME).unlink()
    start = f"data set {prepared}, the last that was prepared: expected {MANIFEST_NAME}, found "
    for found in ("a folder without one", "no such folder"):
        with pytest.raises(DatasetError) as raised:
            find_dataset(None)
        assert str(raised.value) == f"{start}{found}: {HELP}"
        if prepared.exists():
            prepared.rmdir()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "Expecting property name"),
        (b"", "Expecting value"),
        (b"[]", r"expected a JSON object, got \[\]"),
        (b'{"folder": 3}', "record: folder: expected a text, got 3"),
        (b"{}", "record: folder: expected a text, got nothing"),
        (b"[" * 10**6, "expected JSON of a few levels"),
        (b'{"folder": "a\\u0000b"}', "found no such folder"),
    ],
)
def test_damaged_record_is_told(content: bytes, message: str, prepared: Path) -> None:
    remember_dataset(prepared)
    record = Path(platformdirs.user_data_dir("sfisep")) / "dataset.json"
    record.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        find_dataset(None)
    remember_dataset(prepared)
    assert find_dataset(None) == prepared


def test_variable_names_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFISEP_DATA", str(tmp_path / "x"))
    with pytest.raises(DatasetError, match=r"/x, which SFISEP_DATA names: .*no such folder"):
        find_dataset(None)


def test_user_data_folder_that_cannot_be_made(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(DatasetError, match=r"^cannot remember .*: Not a directory; name it with"):
        remember_dataset(prepared)


def test_tests_have_a_user_data_folder_of_their_own(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = Path(platformdirs.user_data_dir("sfisep"))
    assert folder.is_relative_to(tmp_path_factory.getbasetemp())
    assert not folder.exists()
