"""Processes, shards and clusters write the bytes that one process writes, whatever the command."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from sfisep_core.evaluation import scoring
from sfisep_core.foundation.jobs import Execution, run_jobs
from sfisep_core.models.registry import build_model
from sfisep_core.pretrained.model_files import save_model

Run = Callable[..., int]
STEMS = ("vocals", "drums", "bass", "other")
RATE = 8000
COMMANDS = {
    "separate": "separate songs --model model.safetensors --quiet",
    "prepare-data": "prepare-data source --quiet",
    "evaluate": "evaluate --data data --model model.safetensors --baseline resample --sr 6000 "
    "--metrics sdr --quiet",
    "compare-resampling": "compare-resampling --data data --model model.safetensors --sr 6000 "
    "--sr 8000 --method native --method resample --metrics sdr --no-report --quiet",
}
# The two that score share their jobs; in processes one of them stands for both.
IN_PROCESSES = ["separate", "prepare-data", "evaluate"]
SHARDS = ("--shard 2/2", "--shard 1/2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with songs, a data set of three tracks, and a small model."""
    folder = tmp_path_factory.mktemp("execution")
    rng = np.random.default_rng(0)
    for number in range(3):
        place = folder / f"source/test/track {number}"
        place.mkdir(parents=True)
        for stem in STEMS:
            samples = rng.uniform(-0.2, 0.2, (RATE, 2))
            soundfile.write(place / f"{stem}.wav", samples, RATE, subtype="PCM_16")
    (folder / "songs").mkdir()
    for number in range(3):
        samples = rng.uniform(-0.5, 0.5, (RATE, 2))
        soundfile.write(folder / f"songs/{number}.wav", samples, RATE, subtype="PCM_16")
    tcn = {"bottleneck_channels": 8, "hidden_channels": 8, "num_layers": 1, "num_stacks": 1}
    settings = {"num_filters": 16, "mask": "free", "gain_rule": "mixture-consistent"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model("sfi-conv-tasnet", {**settings, "tcn": {**tcn, "norm": "window"}})
    save_model(model, folder / "model.safetensors")
    return folder


@pytest.fixture(autouse=True)
def one_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give PyTorch one thread here, as workers have: sums of more round in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SFISEP_DATA", str(folder / "data"))
    monkeypatch.chdir(folder)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=list(COMMANDS))
def command(request: pytest.FixtureRequest, run_sfisep: Run) -> str:
    """One of the commands, with what it needs, and what it writes in a single process."""
    name = str(request.param)
    if not Path("data").is_dir():
        assert run_sfisep("prepare-data", "source", "--out", "data", "--quiet") == 0
    if not Path(f"{name} once").is_dir():
        assert run_sfisep(*COMMANDS[name].split(), "--out", f"{name} once") == 0
    return name


def files(out: str) -> dict[str, str]:
    """Return the digests of what a command has written, by name; locks are none of it."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(out).rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", IN_PROCESSES, indirect=True)
def test_two_processes_write_the_same(command: str, run_sfisep: Run) -> None:
    out = f"{command} jobs"
    assert run_sfisep(*COMMANDS[command].split(), "--jobs", 2, "--out", out) == 0
    assert files(out) == files(f"{command} once")


@pytest.mark.slow
def test_two_shards_write_the_same(command: str, run_sfisep: Run) -> None:
    out, whole = f"{command} shards", files(f"{command} once")
    sizes = []
    for options in SHARDS:
        assert run_sfisep(*COMMANDS[command].split(), *options.split(), "--out", out) == 0
        sizes.append(len(files(out)))
    assert 0 < sizes[0] < sizes[1]
    assert files(out) == whole


@pytest.mark.parametrize("command", ["evaluate", "compare-resampling"], indirect=True)
def test_commands_that_score_hand_on_where_to_run(
    command: str, run_sfisep: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def note(function: Callable[[Any], Any], jobs: Any, execution: Execution, **_: Any) -> Any:
        asked.append((execution.jobs, execution.engine))
        return run_jobs(function, jobs, Execution())

    monkeypatch.setattr(scoring, "run_jobs", note)
    arguments = [*COMMANDS[command].split(), "--engine", "ray", "--jobs", 3, "--out", tmp_path]
    assert run_sfisep(*arguments, "--track", "track 0") == 0
    assert asked == [(3, "ray")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster, which the commands find as that of their program."""
    if find_spec("ray") is None:  # not imported: what it reads then is set before
        pytest.skip("needs Ray")
    from sfisep_core.foundation import ray_workers

    with pytest.MonkeyPatch.context() as patch:
        # As many threads for NumPy as here: Ray would leave it one.
        patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())))
        with ray_workers._cluster(2):
            yield


@pytest.mark.slow
@pytest.mark.parametrize("command", IN_PROCESSES, indirect=True)
@pytest.mark.usefixtures("cluster")
def test_cluster_writes_the_same(command: str, run_sfisep: Run) -> None:
    out = f"{command} ray"
    arguments = [*COMMANDS[command].split(), "--engine", "ray", "--jobs", 2, "--out", out]
    assert run_sfisep(*arguments) == 0
    assert files(out) == files(f"{command} once")


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_file_that_fails_on_a_cluster_leaves_the_others(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.wav").write_text("no music")
    (tmp_path / "song.wav").hardlink_to(Path("songs/0.wav").resolve())
    command = ["separate", tmp_path, "--model", "model.safetensors", "--stems", "bass", "--json"]
    assert run_sfisep(*command, "--engine", "ray", "--out", tmp_path / "out") == 1
    shown = capsys.readouterr()
    assert [file["status"] for file in json.loads(shown.out)["files"]] == ["failed", "separated"]
    assert "bad.wav" in shown.err
    assert [path.parent.name for path in (tmp_path / "out").rglob("*.wav")] == ["song"]


@pytest.mark.slow
def test_shard_says_what_it_leaves_to_do(
    run_sfisep: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if not Path("data").is_dir():
        assert run_sfisep("prepare-data", "source", "--out", "data", "--quiet") == 0
    score = [*COMMANDS["evaluate"].removesuffix("--quiet").split(), "--out", tmp_path]
    assert run_sfisep(*score, "--shard", "1/3") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert (
        "shard 1/3 is done; 4 scores of other shards, or that failed, still missing. When the "
        "other shards are done, the same command without --shard writes the tables"
    ) in shown.err
    assert not (tmp_path / "6000/summary.json").exists()
    assert run_sfisep(*score, "--shard", "2/3", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"shard": "2/3", "scores": 4, "missing": 2}
    assert run_sfisep(*score) == 0  # without --shard: what is missing, and the tables
    shown = capsys.readouterr()
    assert "2 scores computed, 4 were there already" in shown.err
    assert "median over 3 tracks" in shown.out
    assert (tmp_path / "6000/summary.json").is_file()
