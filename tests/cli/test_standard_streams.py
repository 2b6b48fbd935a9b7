"""Standard output and standard error that are closed, full, or of another encoding."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

REPOSITORY = Path(__file__).parents[2]
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def sfisep(
    *arguments: str | bytes,
    redirect: str = "",
    limit: Callable[[], None] | None = None,
    **variables: str,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command by a shell, with its streams redirected."""
    shell = shutil.which("sh")
    assert shell is not None
    return subprocess.run(
        [
            shell,
            "-c",
            f'exec "$@" {redirect}',
            "sh",
            sys.executable,
            "-m",
            "sfisep_cli",
            *arguments,
        ],
        capture_output=True,
        preexec_fn=limit,  # a process of one thread
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
    )


@pytest.fixture
def song(tmp_path: Path) -> bytes:
    """A short file whose name is no UTF-8."""
    soundfile.write(tmp_path / "song.wav", np.zeros(8000), 8000)
    name = os.fsencode(tmp_path) + b"/caf\xe9 \xc3\xa4.wav"
    os.rename(os.fsencode(tmp_path / "song.wav"), name)
    return name


@pytest.mark.parametrize(
    ("encoding", "status"),
    [
        ("utf-8", "skipped"),
        ("ascii", "skipped"),
        pytest.param("utf-16", "separated", marks=pytest.mark.slow),
    ],
)
def test_json_is_utf_8_for_any_file_name(
    encoding: str, status: str, song: bytes, tmp_path: Path
) -> None:
    arguments = ["separate", song, "-d", "cpu", "--json", "-o", str(tmp_path / "out")]
    if status == "skipped":
        stems = tmp_path / "out/default" / Path(os.fsdecode(song)).stem
        stems.mkdir(parents=True)
        for name in ("vocals", "drums", "bass", "other"):
            (stems / f"{name}.wav").write_bytes(b"a stem")
        arguments.append("--skip-existing")
    done = sfisep(*arguments, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (file,) = json.loads(done.stdout.decode("utf-8"), parse_constant=refuse)["files"]
    assert file["status"] == status
    assert file["path"] == f"{tmp_path}/caf\\xe9 \u00e4.wav"
    assert json.dumps(file, ensure_ascii=False).encode("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["models", "list", "--json"], ["models", "list"]])
@pytest.mark.parametrize(
    ("redirect", "reason"),
    [
        (">&-", "a closed stream"),
        pytest.param(">/dev/full", "No space left on device", marks=needs_full),
    ],
)
def test_output_that_takes_nothing_is_an_error(
    arguments: list[str], redirect: str, reason: str
) -> None:
    done = sfisep(*arguments, redirect=redirect)
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"error: standard output: expected it to take the result, got {reason}: make room, or "
        "write elsewhere\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("redirect", ["2>&-", pytest.param("2>/dev/full", marks=needs_full)])
def test_work_goes_on_without_standard_error(redirect: str, song: bytes, tmp_path: Path) -> None:
    done = sfisep("separate", song, "-d", "cpu", "-o", str(tmp_path / "out"), redirect=redirect)
    assert done.returncode == 0
    assert len(list((tmp_path / "out").rglob("*.wav"))) == 4


@pytest.mark.slow
def test_a_working_folder_that_is_gone() -> None:
    script = f'cd "$(mktemp -d)" && rmdir "$PWD" && exec {sys.executable} -m sfisep_cli separate x'
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run(
        [shell, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 1
    assert done.stderr == "error: the working folder no longer exists: change to another one\n"


@pytest.mark.slow
def test_too_little_memory_to_start(song: bytes) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (600 * 2**20, 600 * 2**20))

    done = sfisep("separate", song, "-d", "cpu", limit=limit)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: memory ran out: ")
    assert line.endswith(": free memory, or raise the limit (`ulimit -v`)")


@pytest.mark.slow
def test_full_temporary_folder_is_named(song: bytes, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    unshare = shutil.which("unshare")
    mount = f"mount -t tmpfs -o size=4k tmpfs {small}"
    if (
        unshare is None
        or subprocess.run([unshare, "-m", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here")
    command = f'{mount} && exec {sys.executable} -m sfisep_cli "$@"'
    arguments = ["separate", song, "-d", "cpu", "--stems", "vocals", "--out", "-"]
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", command, "sh", *arguments],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(small)},
    )
    assert (done.returncode, done.stdout) == (1, b"")
    last = done.stderr.decode().splitlines()[-1]
    assert last == (
        f"error: --out - keeps the stem below {small} until it is whole: set TMPDIR to a folder "
        "with more room"
    )
