"""The launcher, with small programs in place of training."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sfisep_core.training.launch import LaunchError, earlier_failure, launch, report_failure

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


def program(folder: Path, body: str) -> list[str]:
    path = folder / "program.py"
    path.write_text(
        "import os, signal, sys, time\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(REPOSITORY)!r})\nout = Path({str(folder)!r})\n"
        "rank, attempt = os.environ['RANK'], os.environ['TORCHELASTIC_RESTART_COUNT']\n"
        "(out / f'{rank}.{attempt}').touch()\n" + body
    )
    return [str(path)]


@contextmanager
def launcher_of(folder: Path, body: str, *, until: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the launcher of two processes in one of its own, and yield it once both left a file."""
    code = (
        "from sfisep_core.training.launch import launch\n"
        f"raise SystemExit(launch({program(folder, body)!r}, processes=2, max_restarts=0))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY) as launcher:
        while not all((folder / f"{until}{rank}").exists() for rank in "01"):
            assert launcher.poll() is None
            time.sleep(0.02)
        yield launcher


def started(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[0-9].[0-9]"))


def test_every_process_knows_its_place(tmp_path: Path) -> None:
    body = "(out / ('world' + os.environ['WORLD_SIZE'] + rank)).touch()\n"
    assert launch(program(tmp_path, body), processes=2, max_restarts=0) == 0
    assert started(tmp_path) == ["0.0", "1.0"]
    assert (tmp_path / "world20").exists()
    assert (tmp_path / "world21").exists()


def test_killed_process_is_started_again(tmp_path: Path) -> None:
    body = (
        "if (rank, attempt) == ('1', '0'):\n"
        "    while not (out / '0.0').exists(): time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert launch(program(tmp_path, body), processes=2, max_restarts=1) == 0
    assert started(tmp_path) == ["0.0", "0.1", "1.0", "1.1"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_other_machine_can_reach_the_processes(tmp_path: Path) -> None:
    """PyTorch's launcher unpickles what it is sent, by anybody."""
    body = (
        "from datetime import timedelta\n"
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo', timeout=timedelta(seconds=60))\n"
        "(out / f'sockets{rank}').write_text(''.join(\n"
        "    f'{process} {os.readlink(file)}\\n'\n"
        "    for process in (os.getpid(), os.getppid())\n"
        "    for file in Path(f'/proc/{process}/fd').iterdir() if file.is_symlink()))\n"
        "(out / f'tables{rank}').write_text(\n"
        "    Path('/proc/net/tcp').read_text() + Path('/proc/net/tcp6').read_text())\n"
        "dist.barrier()\n"
        "os._exit(0)\n"
    )
    assert launch(program(tmp_path, body), processes=2, max_restarts=0) == 0
    for rank in "01":
        own = set(re.findall(r"socket:\[(\d+)\]", (tmp_path / f"sockets{rank}").read_text()))
        rows = [line.split() for line in (tmp_path / f"tables{rank}").read_text().splitlines()]
        listening = [row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in own]
        assert len(listening) >= 2, "the launcher's store and the process's own"
        # 127.0.0.1, as the kernel writes it for IPv4, and as an IPv6 address
        assert {*listening} <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_process_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    body = (
        "while not (out / f'0.{attempt}').exists(): time.sleep(0.01)\n"
        "if rank == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(LaunchError, match="process 1 of 2 was killed by signal 9, after 1 rest"):
        launch(program(tmp_path, body), processes=2, max_restarts=1)
    assert started(tmp_path) == ["0.0", "0.1", "1.0", "1.1"]


def test_error_of_the_users_comes_back_once_and_is_not_tried_again(tmp_path: Path) -> None:
    body = (
        "from sfisep_core.training.launch import earlier_failure, report_failure\n"
        "if earlier_failure() is not None: sys.exit(earlier_failure())\n"
        "(out / f'tried{rank}{attempt}').touch()\n"
        "if rank == '1':\n"
        "    while not (out / 'tried00').exists(): time.sleep(0.01)\n"
        "    assert report_failure('no such thing', exit_code=2)\n"
        "    sys.exit(2)\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(LaunchError, match=r"^no such thing$") as caught:
        launch(program(tmp_path, body), processes=2, max_restarts=2)
    assert caught.value.exit_code == 2
    assert sorted(path.name for path in tmp_path.glob("tried*")) == ["tried00", "tried10"]


def test_without_a_launcher_there_is_nobody_to_tell() -> None:
    assert not report_failure("text", exit_code=1)
    assert earlier_failure() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("early", [True, False])
def test_processes_end_with_a_killed_launcher(early: bool, tmp_path: Path) -> None:
    """Also if it has ended before they begin to watch it."""
    watch = "from sfisep_core.training.launch import end_with_launcher\nend_with_launcher()\n"
    wait = "(out / f'pid{rank}').write_text(str(os.getpid()))\n"
    wait += "while not (out / 'killed').exists(): time.sleep(0.01)\n"
    body = (wait + watch if early else watch + wait) + "time.sleep(1000)\n"
    with launcher_of(tmp_path, body, until="pid") as launcher:
        launcher.kill()
    (tmp_path / "killed").touch()
    deadline = time.monotonic() + 30
    for rank in "01":
        status = Path("/proc", (tmp_path / f"pid{rank}").read_text(), "status")
        while status.exists() and "State:\tZ" not in status.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_reaches_the_processes(number: signal.Signals, tmp_path: Path) -> None:
    """And the launcher ends with 128 + its number, after they have."""
    body = (
        "def stop(number, _):\n    (out / f'stopped{rank}{number}').touch()\n    sys.exit(9)\n"
        "signal.signal(signal.SIGINT, stop)\nsignal.signal(signal.SIGTERM, stop)\n"
        "(out / f'ready{rank}').touch()\ntime.sleep(60)\n"
    )
    with launcher_of(tmp_path, body, until="ready") as launcher:
        launcher.send_signal(number)
        assert launcher.wait(timeout=60) == 128 + number
    stopped = sorted(path.name for path in tmp_path.glob("stopped*"))
    assert stopped == [f"stopped0{number:d}", f"stopped1{number:d}"]
