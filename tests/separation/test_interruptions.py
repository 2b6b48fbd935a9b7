"""Processes that are ended in the middle of a file, and processes that write the same files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.model_files import save_model
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import SeparationSettings

pytestmark = pytest.mark.slow

STEMS = ("vocals", "drums", "bass", "other")
RATE, SECONDS = 11025, 6

# Forks a process for every kill, so that libraries are loaded once; one thread forks well.
KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from sfisep_core import SeparationSettings, Separator

folder, model, kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
separator = Separator(model, SeparationSettings(segment=1), device="cpu")
draw = random.Random(0)

def start(out):
    pid = os.fork()
    if pid == 0:
        separator.separate_file(folder / "song.wav", out_dir=out)
        os._exit(0)
    return pid

begun = time.monotonic()
os.waitpid(start(folder / "whole"), 0)
whole = time.monotonic() - begun
found = []
for number in range(kills):
    out = folder / str(number)
    pid = start(out)
    time.sleep(draw.uniform(0, 1.1 * whole))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    found.append(sorted(p.name for p in out.glob("[!.]*")) if out.is_dir() else [])
print(json.dumps(found))
"""

# Forks a process for every signal, too; most of them come while the model is loaded.
INTERRUPTER = """
import json, os, random, signal, sys, time
import torch, soundfile
from sfisep_core import Separator
from sfisep_cli.app import main

torch.set_num_threads(1)
number, signals = int(sys.argv[1]), int(sys.argv[2])
Separator("model.safetensors", device="cpu")  # all that is imported on the way
draw = random.Random(number)

def start(out):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            main(["separate", "short.wav", "-m", "model.safetensors", "-q", "-o", out])
        except SystemExit as error:
            os._exit(error.code or 0)
        except BaseException:
            os._exit(99)
    return pid

begun = time.monotonic()
os.waitpid(start("whole"), 0)
whole = time.monotonic() - begun
codes = {}
for turn in range(signals):
    pid = start(f"out {turn}")
    time.sleep(draw.uniform(0.1, 0.9) * whole)
    os.kill(pid, number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    codes[code] = codes.get(code, 0) + 1
print(json.dumps(codes))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a song and a small model."""
    torch.manual_seed(0)
    tcn = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 1, "num_stacks": 1}
    settings = {"num_filters": 16, "mask": "free", "gain_rule": "mixture-consistent"}
    model = build_model("sfi-conv-tasnet", {**settings, "tcn": {**tcn, "norm": "window"}})
    save_model(model, tmp_path / "model.safetensors")
    music = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE * SECONDS, 2))
    soundfile.write(tmp_path / "song.wav", music, RATE, subtype="PCM_16")
    return tmp_path


def start(folder: Path, *options: str, inputs: str = "song.wav") -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "sfisep_cli", "separate", inputs, "-m", "model.safetensors"]
    return subprocess.Popen(
        [*command, "--segment", "1", "-q", *options],
        cwd=folder,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_killed_processes_leave_no_part_under_a_final_name(folder: Path) -> None:
    kills = 10
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(folder), str(folder / "model.safetensors"), str(kills)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    found = json.loads(done.stdout)
    assert len(found) == kills
    assert any(not names for names in found)  # some were in the middle
    for number, names in enumerate(found):
        for name in names:
            whole = (folder / "whole" / name).read_bytes()
            assert (folder / str(number) / name).read_bytes() == whole


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_clean_up(number: signal.Signals, code: int, folder: Path) -> None:
    # So many files that the end is far away when the first is complete.
    for copy in range(40):
        (folder / f"song {copy}.wav").hardlink_to(folder / "song.wav")
    process = start(folder, inputs=".")
    first = folder / f"separated/{folder.name}-model/song 0/other.wav"
    while not first.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors == b""
    left = [path for path in (folder / "separated").rglob("*") if path.is_file()]
    assert {path.name for path in left} == {f"{name}.wav" for name in STEMS}
    assert {soundfile.info(path).frames for path in left} == {RATE * SECONDS}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_no_signal_is_taken_for_another_error(
    number: signal.Signals, code: int, folder: Path
) -> None:
    soundfile.write(folder / "short.wav", np.zeros((RATE, 1)), RATE, subtype="PCM_16")
    signals = 12
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTER, str(int(number)), str(signals)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    codes = json.loads(done.stdout)
    # Very early, before the handlers are there, and at the very end, when the work is done.
    assert codes.keys() <= {str(code), str(-number), "0"}
    assert codes[str(code)] >= signals / 4


def test_two_processes_may_write_the_same_files(folder: Path) -> None:
    processes = [start(folder), start(folder)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, b"")
    separator = Separator(folder / "model.safetensors", SeparationSettings(segment=1), device="cpu")
    separator.separate_file(folder / "song.wav", out_dir=folder / "alone")
    for name in STEMS:
        both = (folder / f"separated/{folder.name}-model/song/{name}.wav").read_bytes()
        assert both == (folder / f"alone/{name}.wav").read_bytes()
    assert len(list((folder / f"separated/{folder.name}-model/song").iterdir())) == len(STEMS)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_cluster_and_say_nothing(
    number: signal.Signals, code: int, folder: Path
) -> None:
    """With a command that loads no PyTorch: the cluster is the same."""
    if find_spec("ray") is None:  # importing it here would keep later tests from a cluster
        pytest.skip("needs Ray")
    track = folder / "source/test/track 0"
    track.mkdir(parents=True)
    for name in STEMS:
        (track / f"{name}.wav").hardlink_to(folder / "song.wav")
    for copy in range(1, 300):
        shutil.copytree(track, track.with_name(f"track {copy}"), copy_function=os.link)
    command = [
        sys.executable,
        "-m",
        "sfisep_cli",
        "prepare-data",
        "source",
        "--out",
        "data",
        "--quiet",
    ]
    process = subprocess.Popen(
        [*command, "--engine", "ray", "--jobs", "2"], cwd=folder, stderr=subprocess.PIPE
    )
    while not list(folder.glob("data/test/*/*.*")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (code, b"")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="finds processes in /proc")
def test_worker_that_is_killed_fails_one_file_alone(folder: Path) -> None:
    """As does a file that holds no music."""
    for name in "abc":
        (folder / f"{name}.wav").hardlink_to(folder / "song.wav")
    (folder / "bad.wav").write_text("no music")
    inputs = ["a.wav", "bad.wav", "b.wav", "c.wav"]
    command = [sys.executable, "-m", "sfisep_cli", "separate", *inputs, "--json"]
    process = subprocess.Popen(
        [*command, "--model", str(folder / "model.safetensors"), "--jobs", "2"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers: list[int] = []
    for _ in range(6000):
        if len(workers) == 2 or process.poll() is not None:
            break
        time.sleep(0.01)
        workers = [
            int(child)
            for child in children.read_text().split()
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    os.kill(workers[0], signal.SIGKILL)
    report, shown = process.communicate()
    assert process.returncode == 1, shown
    files = json.loads(report)["files"]
    assert [file["path"] for file in files] == inputs
    separated = [file["path"] for file in files if file["status"] == "separated"]
    assert len(separated) == 2
    errors = {file["path"]: file["error"] for file in files if file["error"]}
    assert "bad.wav" in errors.pop("bad.wav")
    ((lost, error),) = errors.items()
    assert "the process that separated it was killed, as happens where memory runs out" in error
    written = {path.parent.name for path in (folder / "separated").rglob("*.wav")}
    assert written == {Path(path).stem for path in separated}
    assert f"{lost}: " in shown
