"""Preparing with several processes, in shards, and with processes that are killed."""

import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sfisep_core.data.layouts import STEMS
from sfisep_core.data.manifest import MANIFEST_NAME, read_existing, read_manifest
from sfisep_core.data.preparation import PreparationRequest, PrepareProgress
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.errors import DatasetError

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
RATE = 8000
TRACKS = ("train/a", "train/b", "train/c", "valid/d", "test/e", "test/f")
# Resampling makes the work long enough to be met in the middle.
SETTINGS: dict[str, Any] = {"sample_rate": 48000, "exclude": ["b:1-2", "f:0-1.5"]}
OPTIONS = ("--sr", "48000", "--exclude", "b:1-2", "--exclude", "f:0-1.5")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    for path in TRACKS:
        (folder / path).mkdir(parents=True)
        for stem in (*STEMS, "mixture"):
            samples = rng.uniform(-0.2, 0.2, (5 * RATE + 5, 2))
            soundfile.write(folder / path / f"{stem}.wav", samples, RATE)
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert prepare_dataset(PreparationRequest(source=source, out=out, **SETTINGS)).written == len(
        TRACKS
    )
    return contents(out)


def contents(folder: Path) -> dict[str, bytes]:
    """Give every file, hidden ones too."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_jobs_make_what_one_makes(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    reports: list[PrepareProgress] = []
    result = prepare_dataset(
        PreparationRequest(source=source, out=tmp_path, jobs=3, **SETTINGS), progress=reports.append
    )
    assert (result.written, result.skipped) == (len(TRACKS), [])
    assert contents(tmp_path) == undisturbed
    assert [(report.done, report.total) for report in reports] == [(n, 6) for n in range(7)]
    names = sorted(path.partition("/")[2] for path in TRACKS)
    assert sorted(report.track for report in reports[1:]) == names
    assert (
        prepare_dataset(PreparationRequest(source=source, out=tmp_path, jobs=3, **SETTINGS)).written
        == 0
    )


def test_shards_at_the_same_time_make_what_one_run_makes(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    written: dict[str, int] = {}

    def prepare(shard: str) -> None:
        written[shard] = prepare_dataset(
            PreparationRequest(source=source, out=tmp_path, shard=shard, **SETTINGS)
        ).written

    threads = [threading.Thread(target=prepare, args=(f"{n}/4",)) for n in (4, 3, 2, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written == {"1/4": 2, "2/4": 2, "3/4": 1, "4/4": 1}
    assert contents(tmp_path) == undisturbed
    assert prepare_dataset(PreparationRequest(source=source, out=tmp_path, **SETTINGS)).written == 0


def test_held_out_tracks_do_not_depend_on_the_shard(tmp_path: Path) -> None:
    for number in range(6):
        folder = tmp_path / f"in/song {number}"
        folder.mkdir(parents=True)
        for stem in STEMS:
            soundfile.write(folder / f"{stem}.wav", np.full(100, 0.1 * number), RATE)
    whole = prepare_dataset(
        PreparationRequest(source=tmp_path / "in", out=tmp_path / "whole")
    ).tracks
    for shard in ("2/3", "1/3", "3/3"):
        shards = prepare_dataset(
            PreparationRequest(source=tmp_path / "in", out=tmp_path / "shards", shard=shard)
        ).tracks
    assert shards == whole
    assert {track.split for track in whole} == {"train", "valid"}


def test_warnings_of_the_processes_are_shown_by_the_main_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True)
        for stem in STEMS:
            soundfile.write(folder / f"{stem}.wav", np.full(RATE, 1.5), RATE, subtype="FLOAT")
    with caplog.at_level(logging.WARNING):
        prepare_dataset(PreparationRequest(source=tmp_path / "in", out=tmp_path / "out", jobs=2))
    starts = sorted(message.partition(" and is clipped")[0] for message in caplog.messages)
    assert starts == [f"track {name} exceeds full scale (1.0)" for name in ("a", "b")]
    assert capfd.readouterr().err == ""


def test_strict_ends_the_processes(source: Path, tmp_path: Path) -> None:
    for path in TRACKS:
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).symlink_to(source / path)
    broken = tmp_path / "in/train/0 broken"
    broken.mkdir()
    for stem in STEMS:
        (broken / f"{stem}.wav").write_text("no audio")
    with pytest.raises(DatasetError, match=r"^train/0 broken: .*; nothing further is prepared"):
        prepare_dataset(
            PreparationRequest(
                source=tmp_path / "in", out=tmp_path / "out", strict=True, jobs=2, **SETTINGS
            )
        )
    assert len(read_existing(tmp_path / "out")) < len(TRACKS)
    assert [name for name in contents(tmp_path / "out") if ".part" in name] == []


def start(source: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sfisep_cli", "prepare-data", str(source), "--out", str(out)]
    return subprocess.Popen(
        [*command, *OPTIONS, *options],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition: Callable[[], object]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen within a minute")


def members(session: int) -> list[int]:
    """Give the live processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").is_file(), reason="finds processes in /proc"
)


def check_nothing_is_half_written(out: Path) -> None:
    for path in out.glob("*/*/*.wav"):
        if not path.name.startswith("."):
            assert soundfile.info(path).frames in (240030, 48000, 144030, 168030)
            assert len(soundfile.read(path)[0]) == soundfile.info(path).frames
    for track in read_existing(out):
        for role, file in track.files.items():
            assert hashlib.sha256((out / file).read_bytes()).hexdigest() == track.sha256[role]


@needs_proc
@pytest.mark.parametrize(("jobs", "moments"), [("1", (7,)), ("2", (1, 9, 18))])
def test_killed_at_any_moment_and_repeated(
    jobs: str,
    moments: tuple[int, ...],
    source: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng()  # another moment each time
    for files in moments:
        process = start(source, tmp_path, "--jobs", jobs)
        wait_until(lambda n=files: len(list(tmp_path.glob("*/*/*.wav"))) >= n)
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.communicate()
        # Processes that have lost their parent end after their track; until then they hold it.
        wait_until(lambda pid=process.pid: not members(pid))
        check_nothing_is_half_written(tmp_path)
    process = start(source, tmp_path, "--jobs", jobs)
    _, shown = process.communicate()
    assert process.returncode == 0, shown
    assert contents(tmp_path) == undisturbed


@needs_proc
def test_interrupt_ends_all_processes_with_130(source: Path, tmp_path: Path) -> None:
    process = start(source, tmp_path, "--jobs", "2")
    wait_until(lambda: list(tmp_path.glob("*/*/*.wav")))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, shown = process.communicate()
    assert process.returncode == 130
    assert shown.replace("Aborted.", "").split("layout folders")[-1].strip() == ""
    wait_until(lambda: not members(process.pid))
    assert [name for name in contents(tmp_path) if ".part" in name] == []
    assert len(read_existing(tmp_path)) < 7
    check_nothing_is_half_written(tmp_path)


@needs_proc
def test_worker_that_is_killed_ends_the_run(source: Path, tmp_path: Path) -> None:
    process = start(source, tmp_path, "--jobs", "2")
    wait_until(lambda: list(tmp_path.glob("*/*/*.wav")))
    workers = [
        pid
        for pid in members(process.pid)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    _, shown = process.communicate()
    assert process.returncode == 1
    assert "error: a worker process was killed" in shown
    assert "Traceback" not in shown
    wait_until(lambda: not members(process.pid))


def test_tracks_are_known_as_soon_as_they_are_done(source: Path, tmp_path: Path) -> None:
    sizes = []

    def look(_: object) -> None:
        sizes.append(len(read_existing(tmp_path)))
        assert not (tmp_path / MANIFEST_NAME).exists()  # written once, at the end

    prepare_dataset(PreparationRequest(source=source, out=tmp_path, **SETTINGS), progress=look)
    assert sizes == [0, 1, 3, 4, 5, 6, 7]
    assert (tmp_path / MANIFEST_NAME).is_file()
    assert not list(tmp_path.glob(".*.jsonl"))


def test_finished_tracks_of_a_killed_run_are_neither_lost_nor_made_again(
    source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from sfisep_core.data.preparation import PreparationRequest\n"
        "from sfisep_core.data.prepare import prepare_dataset\n"
        "def die(progress):\n"
        "    if progress.done == 4: os._exit(9)\n"
        "source, out = map(Path, sys.argv[1:])\n"
        f"request = PreparationRequest(source=source, out=out, **{SETTINGS!r})\n"
        "prepare_dataset(request, progress=die)\n"
    )
    arguments = [sys.executable, "-c", program, str(source), str(tmp_path)]
    assert subprocess.run(arguments, cwd=REPOSITORY, check=False).returncode == 9
    assert not (tmp_path / MANIFEST_NAME).exists()
    known = read_manifest(tmp_path)
    assert len(known) == 5
    before = [(tmp_path / file).stat().st_ino for t in known for file in t.files.values()]
    assert prepare_dataset(PreparationRequest(source=source, out=tmp_path, **SETTINGS)).written == 2
    assert [(tmp_path / file).stat().st_ino for t in known for file in t.files.values()] == before
    assert contents(tmp_path) == undisturbed
