"""Workers do not outlive the process that started them, whatever they are doing."""

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").is_file(), reason="finds processes in /proc"
)

# What the workers do: sleep, compute in Python, or in a call that no signal interrupts.
PROGRAM = """
import hashlib, os, sys, time
from pathlib import Path
from sfisep_core.foundation.jobs import Execution, run_jobs

def work(kind):
    Path(f"{os.getpid()}.pid").touch()
    try:
        if kind == "sleep":
            time.sleep(1000)
        while kind == "python":
            pass
        while True:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
    finally:
        Path(f"{os.getpid()}.clean").touch()

if __name__ == "__main__":
    list(run_jobs(work, [sys.argv[1]] * 2, Execution(jobs=2, engine=sys.argv[2])))
"""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def start(
    folder: Path, program: str, *arguments: str
) -> tuple["subprocess.Popen[bytes]", list[int]]:
    """Start two workers, and return their parent and their numbers once they work."""
    (folder / "program.py").write_text(program)
    process = subprocess.Popen(
        [sys.executable, "program.py", *arguments], cwd=folder, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.pid"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, [int(path.stem) for path in folder.glob("*.pid")]


def wait_for_end(pids: list[int], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"alive: {alive}"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cleans"), [("sleep", True), ("python", True), ("c", False)])
def test_workers_end_with_a_killed_parent(kind: str, cleans: bool, tmp_path: Path) -> None:
    process, workers = start(tmp_path, PROGRAM, kind, "local")
    process.kill()
    process.communicate()
    wait_for_end(workers, seconds=20)  # three, on a machine with nothing else to do
    assert len(list(tmp_path.glob("*.clean"))) == (2 if cleans else 0)


SLOW_MODULE = """
import os, time
from pathlib import Path

if os.environ.setdefault("STARTER", str(os.getpid())) != str(os.getpid()):
    Path(f"{os.getpid()}.pid").touch()
    time.sleep(1000)

def work(kind):
    pass
"""
STARTER = """
from sfisep_core.foundation.jobs import Execution, run_jobs

if __name__ == "__main__":
    from slow_module import work
    list(run_jobs(work, [1, 2], Execution(jobs=2)))
"""


@pytest.mark.slow
def test_workers_that_still_import_end_with_a_killed_parent(tmp_path: Path) -> None:
    """Importing PyTorch takes half a minute on a machine that is busy."""
    (tmp_path / "slow_module.py").write_text(SLOW_MODULE)
    process, workers = start(tmp_path, STARTER)
    process.kill()
    wait_for_end(workers, seconds=20)
    process.communicate()


@pytest.mark.slow
def test_workers_of_a_cluster_end_with_a_killed_parent(tmp_path: Path) -> None:
    if find_spec("ray") is None:
        pytest.skip("needs Ray")
    process, workers = start(tmp_path, PROGRAM, "sleep", "ray")
    assert listening_beyond_this_machine([process.pid, *descendants(process.pid)]) == []
    process.kill()  # what SIGTERM does to a cluster is tested with `separate`
    process.communicate()
    wait_for_end(workers, seconds=60)


def descendants(pid: int) -> list[int]:
    children = [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]
    return children + [other for child in children for other in descendants(child)]


def listening_beyond_this_machine(pids: list[int]) -> list[str]:
    """Return the addresses at which these processes take connections of other machines."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(os.readlink(link))
            except OSError:  # it has been closed
                continue
    found, listening = [], 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).is_file():
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            _, address, _, state, *others = line.split()
            if state != "0A" or f"socket:[{others[5]}]" not in sockets:
                continue
            listening += 1
            host = address.partition(":")[0]
            # 127.0.0.1, and the same as an address of version 6.
            if not host.endswith("0100007F"):
                found.append(address)
    assert listening > 0
    return found
