import os
import signal

import pytest

from sfisep_core.errors import ConfigError, WorkerError
from sfisep_core.foundation.jobs import Execution, parse_shard, run_jobs


def test_shards() -> None:
    assert [parse_shard(text) for text in ("1/1", "1/3", "3/3")] == [(1, 1), (1, 3), (3, 3)]
    for text in ("", "2", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "1.0/2", "1/2\n", "²/2"):
        with pytest.raises(
            ConfigError, match=f"^shard {text!r}: expected I/N".replace("\\", r"\\")
        ):
            Execution(shard=text)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_every_job_is_in_one_shard(count: int) -> None:
    jobs = list("abcdefghij")
    shards = [Execution(shard=f"{n}/{count}").share(jobs) for n in range(1, count + 1)]
    assert sorted(job for shard in shards for job in shard) == jobs
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert Execution().share(jobs) == jobs


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match="jobs: expected 1 or more at the same time, got 0"):
        Execution(jobs=0)
    with pytest.raises(ConfigError, match="engine 'dask': expected local or ray"):
        Execution(engine="dask")  # type: ignore[arg-type]


def square_or_fail(number: int) -> int:
    if number < 0:
        msg = f"expected 0 or more, got {number}"
        raise ConfigError(msg)
    return number**2


def die(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "items"), [(1, 3), (2, 5), (9, 2)])
def test_every_item_is_worked_on_once(jobs: int, items: int) -> None:
    found = list(run_jobs(square_or_fail, range(items), Execution(jobs=jobs)))
    assert sorted(found) == [(n, n**2) for n in range(items)]
    assert list(run_jobs(square_or_fail, [], Execution(jobs=jobs))) == []


@pytest.mark.slow
def test_exception_of_a_process_arrives() -> None:
    with pytest.raises(ConfigError, match="expected 0 or more, got -3"):
        list(run_jobs(square_or_fail, [-3, -3], Execution(jobs=2)))


@pytest.mark.slow
def test_process_that_is_killed_is_told() -> None:
    with pytest.raises(WorkerError, match="a worker process was killed, as happens where memory"):
        list(run_jobs(die, [1, 2, 3], Execution(jobs=2)))


@pytest.mark.slow
def test_others_go_on_where_one_is_killed() -> None:
    found = run_jobs(die, range(6), Execution(jobs=2), killed=lambda number: -number)
    assert sorted(found) == [(n, -n if n == 1 else n) for n in range(6)]
