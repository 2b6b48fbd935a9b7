import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sfisep_core.foundation import atomic
from sfisep_core.foundation.atomic import (
    put_all_in_place,
    remove_left_overs,
    temporary_beside,
    written_whole,
)
from sfisep_core.foundation.digests import file_sha256


@pytest.mark.parametrize("name", ["a.json", "n" * 250 + ".json", "n" * 255, "é" * 125 + ".wav"])
def test_names_of_any_length_can_be_written(tmp_path: Path, name: str) -> None:
    with written_whole(tmp_path / name) as temporary:
        assert temporary.suffix == ((tmp_path / name).suffix or ".part")
        temporary.write_bytes(b"content")
        assert os.listdir(tmp_path) == [temporary.name]
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"content"


def test_an_exception_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before")

    def write_half() -> None:
        with written_whole(tmp_path / "a") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"before"


def test_data_are_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[int, bool]] = []

    def note(number: int) -> None:
        flushed.append((os.fstat(number).st_size, (tmp_path / "a").exists()))

    monkeypatch.setattr(os, "fsync", note)
    with written_whole(tmp_path / "a") as temporary:
        temporary.write_bytes(b"content")
    assert flushed == [(7, False)]


def test_a_disk_that_fails_while_flushing_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    (tmp_path / "a").write_bytes(b"before")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"), written_whole(tmp_path / "a") as temporary:
        temporary.write_bytes(b"after")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"before"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def files(tmp_path: Path) -> dict[Path, Path]:
    """New versions of `a`, `b` and `c`; there is an older one of `a` and `b`."""
    for name in "ab":
        (tmp_path / name).write_text("before")
    files = {temporary_beside(tmp_path / name): tmp_path / name for name in "abc"}
    for temporary in files:
        temporary.write_text("after")
    return files


def test_files_that_belong_together_get_their_names(
    files: dict[Path, Path], tmp_path: Path
) -> None:
    put_all_in_place(files)
    assert contents(tmp_path) == dict.fromkeys("abc", "after")


def fail_to_link(path: Path, target: Path) -> None:
    raise PermissionError(1, "Operation not permitted", str(path), None, str(target))


@pytest.mark.slow
@pytest.mark.parametrize("failing", "abc")
@pytest.mark.parametrize("link", [Path.hardlink_to, fail_to_link], ids=["links", "no links"])
def test_all_keep_what_they_had_where_one_cannot_get_its_name(
    failing: str,
    link: Callable[[Path, Path], None],
    files: dict[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if target.name == failing and path in files:
            raise OSError(5, "Input/output error", str(path), None, str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    monkeypatch.setattr(Path, "hardlink_to", link)
    with pytest.raises(OSError, match="Input/output") as raised:
        put_all_in_place(files)
    assert raised.value.filename2 == str(tmp_path / failing)
    temporary = {path.name: "after" for path in files}
    assert contents(tmp_path) == {"a": "before", "b": "before", **temporary}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_wait_until_all_have_their_names(
    number: signal.Signals,
    files: dict[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        os.kill(os.getpid(), number)
        return replace(path, target)

    class Ended(BaseException):
        pass

    def end(*_: object) -> None:
        raise Ended

    monkeypatch.setattr(Path, "replace", interrupted)
    before = signal.signal(number, end)
    try:
        with pytest.raises(Ended):
            put_all_in_place(files)
    finally:
        signal.signal(number, before)
    assert contents(tmp_path) == dict.fromkeys("abc", "after")


def test_files_of_killed_runs_are_removed_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, recent = temporary_beside(tmp_path / "a.wav"), temporary_beside(tmp_path / "a.wav")
    others = [tmp_path / name for name in (".a.part", "a.part", ".a.0123.part.wav", "b.wav")]
    for path in (old, recent, *others):
        path.touch()
    long_ago = time.time() - 7200
    for path in (old, *others):
        os.utime(path, (long_ago, long_ago))
    monkeypatch.setattr(atomic, "_cleaned", set())
    remove_left_overs(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in (recent, *others))
    remove_left_overs(tmp_path / "missing")


def test_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert file_sha256(tmp_path / "a") == expected
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "b")
