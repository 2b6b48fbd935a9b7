"""Runs of several processes, and processes that die, through the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sfisep_core.data.demo_corpus import generate_demo_corpus
from sfisep_core.data.preparation import PreparationRequest
from sfisep_core.data.prepare import prepare_dataset
from sfisep_core.training.checkpoint import load_checkpoint
from sfisep_core.training.requests import TrainingRequest, run_training

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = 20
SETTINGS = f"""
steps = {STEPS}
batch_size = 4
warmup_steps = 4
learning_rate = 1e-2
ema_decay = 0.9
mask_silent = true
log_steps = 1
epoch_steps = 1000
checkpoint_minutes = 0.0
validation_rates = [4000]
validation_tracks = 1
validation_seconds = 1.0

[model]
num_filters = 16
kernel_size = 320
stride = 160
trunk = "shared"
mask = "free"
gain_rule = "mixture-consistent"
normalizes_level = false

[model.tcn]
bottleneck_channels = 8
hidden_channels = 16
num_layers = 2
num_stacks = 1
norm = "window"
norm_window = 21

[mixing]
excerpt_seconds = 1.0
sample_rates = [4000, 6000]
mute_probability = 0.4
"""

PRECISE = "precision=fp64"
TWO_PROCESSES = ["--gpus", "0", "--workers", "2", "--loader-workers", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    generate_demo_corpus(
        folder / "demo", num_train=2, num_valid=1, num_test=0, seconds=3, sample_rate=8000, seed=0
    )
    return prepare_dataset(
        PreparationRequest(source=folder / "demo", out=folder / "prepared")
    ).folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "settings.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread here as in the processes: sums of more round in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(data: Path, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbs."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(data, out, settings)
    return out


@pytest.fixture(scope="module")
def precise(data: Path, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in double precision."""
    out = tmp_path_factory.mktemp("precise") / "run"
    run(data, out, settings, PRECISE)
    return out


def command(data: Path, out: Path, settings: Path, *options: str) -> list[str]:
    arguments = ["--data", str(data), "--out", str(out), "--config", str(settings), *options]
    return [sys.executable, "-m", "sfisep_cli", "train", "--quiet", *arguments]


def run(data: Path, out: Path, settings: Path, *overrides: str, **options: Any) -> None:
    """Train in this process."""
    request = TrainingRequest(
        data=data, out=out, config_file=settings, overrides=overrides, device="cpu", **options
    )
    run_training(request)


def losses(out: Path) -> dict[int, float]:
    """Read the losses so far; the last line of a run that is going on may not be complete."""
    if not (out / "log.jsonl").exists():
        return {}
    lines = (out / "log.jsonl").read_text().split("\n")[:-1]
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return {event["step"]: event["loss"] for event in events if event["event"] == "train"}


def wait_for_step(step: int, out: Path, process: subprocess.Popen[Any]) -> None:
    while max(losses(out), default=0) < step:
        assert process.poll() is None
        time.sleep(0.01)


def weights(out: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(out / "checkpoint.pt")["model"]
    return state


def assert_same(out: Path, precise: Path) -> None:
    for name, tensor in weights(precise).items():
        torch.testing.assert_close(weights(out)[name], tensor, rtol=1e-9, atol=1e-9)
    assert losses(out) == pytest.approx(losses(precise), rel=1e-9)


def test_batch_that_is_split_gives_the_same_weights(
    precise: Path, data: Path, settings: Path, tmp_path: Path
) -> None:
    """Although different numbers of stems are muted, hence left out, in the two halves."""
    run(data, tmp_path / "split", settings, PRECISE, "accumulation=2")
    assert_same(tmp_path / "split", precise)


def test_two_processes_of_which_one_is_killed_give_the_same_weights(
    precise: Path, data: Path, settings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = [*TWO_PROCESSES, "--max-restarts", "1", "--set", PRECISE]
    with subprocess.Popen(command(data, out, settings, *options), cwd=REPOSITORY) as launcher:
        wait_for_step(3, out, launcher)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        trainers = [
            int(pid)
            for pid in children
            if b"sfisep_cli" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert len(trainers) == 2
        os.kill(trainers[1], signal.SIGKILL)
        assert launcher.wait(timeout=120) == 0
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    starts = [event["step"] for event in events if event["event"] == "start"]
    assert len(starts) == 2
    assert 0 < starts[1] < STEPS
    assert len(losses(out)) == STEPS
    assert_same(out, precise)


def test_killed_run_goes_on_as_if_nothing_had_happened(
    whole: Path, data: Path, settings: Path, tmp_path: Path
) -> None:
    options = ["--loader-workers", "2"]  # which have read ahead
    killed = tmp_path / "killed"
    with subprocess.Popen(
        command(data, killed, settings, *options), cwd=REPOSITORY, stderr=subprocess.DEVNULL
    ) as process:
        wait_for_step(5, killed, process)
        process.kill()
    at = load_checkpoint(killed / "checkpoint.pt")["step"]
    assert 0 < at < STEPS
    run(data, killed, settings, loader_workers=2, resume=True)
    assert losses(killed) == losses(whole)  # to the last bit
    assert len(losses(whole)) == STEPS
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(killed)[name], tensor)


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGINT, []),
        (signal.SIGTERM, TWO_PROCESSES),
    ],
)
def test_signal_saves_a_checkpoint(
    number: signal.Signals, options: list[str], data: Path, settings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = [*options, "--set", "checkpoint_minutes=60", "--set", "steps=100000"]
    with subprocess.Popen(
        command(data, out, settings, *options),
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for_step(3, out, process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    step = load_checkpoint(out / "checkpoint.pt")["step"]
    assert step == max(losses(out)) >= 3
    assert f"training stopped at step {step}; `sfisep train --resume --out" in errors
    assert "Traceback" not in errors


def test_error_in_every_process_is_shown_once(data: Path, settings: Path, tmp_path: Path) -> None:
    options = [*TWO_PROCESSES, "--set", "mixing.excerpt_seconds=60"]
    ended = subprocess.run(
        command(data, tmp_path / "run", settings, *options),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("error:") == 1
    assert "expected tracks of at least" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_process_that_is_started_again_after_an_error_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(json.dumps({"message": "no such thing", "exit_code": 2}))
    program = (
        "import sys\nfrom sfisep_cli.app import main\n"
        "try:\n    main(['train', '--data', 'nowhere'])\n"
        "except SystemExit as error:\n    print(error.code, 'numpy' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=os.environ | {"SFISEP_LAUNCH_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("2 False\n", "")
