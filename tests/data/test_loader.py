import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.layouts import STEMS
from sfisep_core.data.loader import ExampleLoader
from sfisep_core.data.mixing import RawBatch, draw_example
from sfisep_core.data.mixing_config import MixingConfig
from sfisep_core.errors import AudioFileError, ConfigError, DatasetError, TrainingError

pytestmark = pytest.mark.slow

RATE = 8000
CONFIG = MixingConfig(
    excerpt_seconds=0.25,
    equalizer_probability=0.5,
    exchange_probability=0.7,
    mute_probability=0.1,
    speeds=(0.8, 1.25),
)

MakeData = Callable[..., Path]


def noise(track: int, stem: int) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng([track, stem])
    return np.asarray(rng.integers(-8000, 8000, (2 * RATE, 2)) / 32768)


@pytest.fixture
def dataset(make_data: MakeData) -> StemDataset:
    return StemDataset(make_data(noise), split="train", excerpt_seconds=CONFIG.stored_seconds)


def make_loader(dataset: StemDataset, **changed: Any) -> ExampleLoader:
    settings = {"seed": 3, "first_step": 0, "steps": 3, "batch_size": 4, **changed}
    return ExampleLoader(dataset, STEMS, CONFIG, **settings)


def flat(batches: list[RawBatch]) -> list[list[torch.Tensor]]:
    """Give the examples of batches one by one: stems, gains, curves."""
    return [
        [tensor[i] for tensor in (batch.stems, batch.gains, batch.curves)]
        for batch in batches
        for i in range(len(batch.gains))
    ]


def assert_same(found: list[list[torch.Tensor]], expected: list[list[torch.Tensor]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)


@pytest.fixture
def expected(dataset: StemDataset) -> list[list[torch.Tensor]]:
    """All examples of three steps of four."""
    keys = [(step, example) for step in range(3) for example in range(4)]
    drawn = [
        draw_example(dataset, STEMS, CONFIG, seed=3, step=step, example=example, batch_size=4)
        for step, example in keys
    ]
    tensors = [
        [torch.from_numpy(array) for array in (example.stems, example.gains, example.curves)]
        for example in drawn
    ]
    assert len({float(stems.sum()) for stems, _, _ in tensors}) == len(keys)
    return tensors


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_examples_come_in_order(
    workers: int, dataset: StemDataset, expected: list[list[torch.Tensor]]
) -> None:
    state = torch.get_rng_state()
    loader = make_loader(dataset, workers=workers)
    assert len(loader) == 3
    batches = list(loader)
    assert [len(batch.gains) for batch in batches] == [4, 4, 4]
    assert_same(flat(batches), expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert multiprocessing.active_children() == []


def test_more_workers_than_cores_are_the_users_choice(
    dataset: StemDataset, expected: list[list[torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch would warn, which is an error in tests."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert_same(flat(list(make_loader(dataset, workers=2))), expected)


@pytest.mark.parametrize(
    ("world_size", "accumulation", "workers"),
    [(1, 2, 0), (2, 1, 0), (2, 2, 0), (1, 4, 0), (2, 2, 2)],
)
def test_neither_processes_nor_micro_batches_change_the_examples(
    world_size: int,
    accumulation: int,
    workers: int,
    dataset: StemDataset,
    expected: list[list[torch.Tensor]],
) -> None:
    ranks = []
    for rank in range(world_size):
        loader = make_loader(
            dataset, rank=rank, world_size=world_size, accumulation=accumulation, workers=workers
        )
        assert len(loader) == 3 * accumulation
        ranks.append(list(loader))
    # Micro-batch by micro-batch, each over all processes.
    joined = [rank[i] for i in range(3 * accumulation) for rank in ranks]
    assert {len(batch.gains) for batch in joined} == {4 // (world_size * accumulation)}
    assert_same(flat(joined), expected)


def test_a_restart_goes_on_where_it_was(
    dataset: StemDataset, expected: list[list[torch.Tensor]]
) -> None:
    assert_same(flat(list(make_loader(dataset, first_step=1))), expected[4:])
    assert_same(flat(list(make_loader(dataset, first_step=2, accumulation=2))), expected[8:])
    assert list(make_loader(dataset, first_step=3)) == []
    assert list(make_loader(dataset, first_step=4, workers=1)) == []


def test_batch_that_cannot_be_divided(dataset: StemDataset) -> None:
    with pytest.raises(ConfigError) as raised:
        make_loader(dataset, batch_size=8, world_size=3, accumulation=2)
    assert str(raised.value) == (
        "training setting batch_size: expected a multiple of 6 (3 processes x accumulation 2), "
        "got 8"
    )


def test_rates_that_cannot_be_resampled_are_refused_at_once(dataset: StemDataset) -> None:
    config = MixingConfig(excerpt_seconds=0.25, sample_rates=(8000, 44101), speeds=(1.1,))
    with pytest.raises(ConfigError) as raised:
        ExampleLoader(dataset, STEMS, config, seed=0, first_step=0, steps=1, batch_size=1)
    assert str(raised.value) == (
        "training setting mixing.sample_rates: cannot resample from 8000 Hz to 44101 Hz (data at "
        "8000 Hz, mixing.speeds [1.1]): choose rates that have a large common divisor"
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_files_come_out_as_they_are(workers: int, dataset: StemDataset) -> None:
    paths = [dataset.folder / f"train/track{track}/vocals.wav" for track in range(2)]
    for path in paths:
        path.write_bytes(path.read_bytes()[:500])
    pattern = r"^/.*vocals\.wav: expected 16000 frames as manifest\.json says, found \d+: prepare"
    with pytest.raises(DatasetError, match=pattern):
        list(make_loader(dataset, workers=workers))
    for path in paths:
        path.unlink()
    pattern = r"^cannot read '.*vocals\.wav': expected an audio file, found no such file; check"
    with pytest.raises(AudioFileError, match=pattern):
        list(make_loader(dataset, workers=workers))
    assert multiprocessing.active_children() == []


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():  # the test runner's limit ends what never comes true
        time.sleep(0.02)


def worker_pids() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def test_killed_worker_is_an_error_and_not_a_hang(dataset: StemDataset) -> None:
    with closing(make_loader(dataset, workers=2, steps=1000)) as loader:
        batches = iter(loader)
        next(batches)
        pids = worker_pids()
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGKILL)
        pattern = (
            r"^training: a process that reads examples has died \(.+\): perhaps memory, or "
            r"/dev/shm, does not suffice for 2 workers; go on with --resume and fewer "
        )
        with pytest.raises(TrainingError, match=pattern):
            for _ in batches:
                pass
    assert worker_pids() == []


def test_signals_to_all_processes_do_not_stop_workers(
    dataset: StemDataset, expected: list[list[torch.Tensor]]
) -> None:
    with closing(make_loader(dataset, workers=1, steps=40)) as loader:
        batches = iter(loader)
        first = next(batches)
        (pid,) = worker_pids()
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, signal_number)
        assert_same(flat([first, *islice(batches, 2)]), expected)
        assert worker_pids() == [pid]
    assert worker_pids() == []


def test_closing_ends_workers_in_the_middle(dataset: StemDataset) -> None:
    loader = make_loader(dataset, workers=1, steps=1000)
    batches: Iterator[RawBatch] = iter(loader)
    next(batches)
    assert len(worker_pids()) == 1
    loader.close()
    loader.close()
    assert worker_pids() == []
    batches = iter(loader)
    next(batches)
    assert len(worker_pids()) == 1
    del batches  # nobody can ask for more
    assert worker_pids() == []


_PROGRAM = """
import multiprocessing, sys
from pathlib import Path
from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.loader import ExampleLoader
from sfisep_core.data.mixing_config import MixingConfig

if __name__ == "__main__":
    config = MixingConfig(excerpt_seconds=0.25)
    dataset = StemDataset(Path(sys.argv[1]), split="train", excerpt_seconds=config.stored_seconds)
    loader = ExampleLoader(
        dataset, ("bass",), config, seed=0, first_step=0, steps=99, batch_size=1, workers=1
    )
    batches = iter(loader)
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    sys.stdin.read()
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("killed", [False, True])
def test_workers_end_with_the_process_that_trains(
    killed: bool, dataset: StemDataset, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM, encoding="utf-8")
    repository = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, program, dataset.folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(repository)},
        cwd=repository,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert is_running(pid)
        if killed:
            process.kill()
        else:
            process.stdin.close()  # it ends as programs do, with its loader open
        assert process.wait() == (-signal.SIGKILL if killed else 0)
    wait_until(lambda: not is_running(pid))


def test_resampling_without_torchaudio_is_refused_before_the_first_step(
    monkeypatch: pytest.MonkeyPatch, dataset: StemDataset
) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    settings = {"seed": 3, "first_step": 0, "steps": 3, "batch_size": 4}
    assert (
        len(
            ExampleLoader(
                dataset, STEMS, MixingConfig(speeds=(1.0,), sample_rates=(RATE,)), **settings
            )
        )
        == 3
    )
    with pytest.raises(ConfigError, match="training at 4000 Hz and at the speeds 1"):
        ExampleLoader(dataset, STEMS, MixingConfig(speeds=(1.0,), sample_rates=(4000,)), **settings)
