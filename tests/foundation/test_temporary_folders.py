"""Temporary folders of killed runs are removed, and no others."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from sfisep_core.foundation import temporary_folders
from sfisep_core.foundation.temporary_folders import (
    remove_left_folders,
    temporary_folder,
)

KILLED = """
import os, signal
from sfisep_core.foundation.temporary_folders import claim_folder_of_sockets, temporary_folder
claim_folder_of_sockets()
with temporary_folder() as folder:
    (folder / "samples").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
LOCK = temporary_folders._LOCK_NAME


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def age(folder: Path) -> None:
    long_ago = time.time() - 7200
    os.utime(folder / LOCK, (long_ago, long_ago))


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_folders_of_killed_runs_are_removed_when_they_are_old(place: Path) -> None:
    environment = os.environ | {"TMPDIR": str(place)}
    subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False)
    left = sorted(place.iterdir())
    assert [path.name.partition("-")[0] for path in left] == ["pymp", "sfisep"]
    remove_left_folders()
    assert sorted(place.iterdir()) == left
    age(left[0])
    remove_left_folders()
    assert sorted(place.iterdir()) == left[1:]
    age(left[1])
    with temporary_folder() as folder:
        assert list(place.iterdir()) == [folder]
    assert list(place.iterdir()) == []


def test_folders_in_use_and_of_others_stay(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in ("pymp-other", "sfisep-notes", "mine"):
        (place / name).mkdir()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / LOCK).touch()
    age(elsewhere)
    (place / "sfisep-link").symlink_to(elsewhere)
    (place / "sfisep-inner").mkdir()
    (place / "sfisep-inner" / LOCK).symlink_to(elsewhere / LOCK)
    names = sorted(path.name for path in place.iterdir())
    with temporary_folder() as folder:
        age(folder)
        remove_left_folders()
        assert sorted(path.name for path in place.iterdir()) == sorted([*names, folder.name])
    assert sorted(path.name for path in place.iterdir()) == names
    assert (elsewhere / LOCK).exists()


def test_folder_of_sockets_is_claimed_once_and_removed_at_the_end(place: Path) -> None:
    program = (
        "from sfisep_core.foundation.temporary_folders import claim_folder_of_sockets as claim;"
        "import multiprocessing.util;"
        "claim(); claim(); print(multiprocessing.util.get_temp_dir())"
    )
    environment = os.environ | {"TMPDIR": str(place)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    )
    assert (Path(done.stdout.strip()).parent, done.stderr) == (place, "")
    assert list(place.iterdir()) == []
