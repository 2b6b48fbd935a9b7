"""Loader workers in a small /dev/shm, as in a container; mounting one needs root."""

import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from sfisep_core.data import shared_memory
from sfisep_core.data.shared_memory import check_shared_memory
from sfisep_core.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
Usage = namedtuple("Usage", "total used free")

# What a training process does with a loader, and how it ends.
SCRIPT = """
import sys
from types import SimpleNamespace
import numpy as np, torch
from sfisep_core.data import loader, shared_memory
from sfisep_core.data.mixing import RawBatch
from sfisep_core.data.mixing_config import MixingConfig
from sfisep_core.errors import SfisepError

class Batches(torch.utils.data.Dataset):
    def __init__(self, *_, **__): pass
    def __len__(self): return 40
    def __getitem__(self, number):
        return RawBatch(torch.zeros(2_000_000), torch.zeros(1), torch.zeros(1))

if __name__ == "__main__":
    loader.MicroBatches = Batches
    if "unchecked" in sys.argv:  # as where others fill the memory later
        loader.check_shared_memory = lambda *_, **__: None
    track = SimpleNamespace(channels=2, frames=10**7)
    dataset = SimpleNamespace(sample_rate=44100, tracks=[track])
    try:
        batches = iter(loader.ExampleLoader(
            dataset, ["a", "b", "c", "d"],
            MixingConfig(excerpt_seconds=6.0, sample_rates=(44100,)), seed=0, first_step=0,
            steps=40, batch_size=2, workers=2,
        ))
        kept = [next(batches) for _ in range(40)]
    except SfisepError as error:
        print(type(error).__name__, error)
"""


def run_with_small_memory(size: str, tmp_path: Path, *arguments: str) -> str:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-m", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here")
    command = [unshare, "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, script]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=240,  # it must not hang
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_batches_that_have_no_room_are_refused_at_once(tmp_path: Path) -> None:
    told = run_with_small_memory("64M", tmp_path)
    assert told == (
        "ConfigError --loader-workers 2: batches of 20.2 MiB need 121 MiB of /dev/shm, where 64 "
        "MiB are free: give a container more (`docker run --shm-size 2g`), or pass "
        "--loader-workers 0, which reads between the steps\n"
    )


@pytest.mark.slow
def test_memory_that_runs_out_later_ends_with_an_error(tmp_path: Path) -> None:
    told = run_with_small_memory("64M", tmp_path, "unchecked")
    assert told.startswith("TrainingError training: ")
    assert shared_memory.SHARED_MEMORY in told
    assert "--shm-size" in told
    assert "--loader-workers 0" in told


def test_processes_of_a_machine_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda _: Usage(0, 0, 100 * 2**20))
    check_shared_memory(25 * 2**20, batches=4, workers=1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="need 200 MiB of /dev/shm, where 100 MiB are free"):
        check_shared_memory(25 * 2**20, batches=4, workers=1)


def test_systems_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", "/nowhere")
    check_shared_memory(2**50, batches=4, workers=1)
