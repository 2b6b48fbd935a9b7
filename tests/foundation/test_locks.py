import errno
import fcntl
import os
from pathlib import Path

import pytest

from sfisep_core.foundation.locks import LockHeldError, locked, locked_while_busy


def test_a_held_lock_is_refused_or_waited_for(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock"),
        pytest.raises(LockHeldError, match="another process holds"),
        locked(tmp_path / "lock", wait=False),
    ):
        pass
    with locked(tmp_path / "lock", wait=False):
        pass


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file system that has no locks, as network file systems may be."""

    def flock(_: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("without_locks")
def test_errors_of_file_systems_without_locks_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(OSError, match="lock") as waiting, locked(path):
        pass
    with (
        pytest.raises(OSError, match="lock") as busy,
        locked_while_busy(path, holder=tmp_path / "holder", written=lambda: 0, purpose="tests"),
    ):
        pass
    for caught in (waiting, busy):
        assert (caught.value.errno, caught.value.filename) == (errno.ENOLCK, str(path))
        assert "the file system has no locks" in str(caught.value)
