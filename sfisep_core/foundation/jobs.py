"""Run independent jobs with one call: in this process, in local processes, or on a Ray cluster.

A job is a frozen value that can be pickled; a module-level function maps it to an outcome.
"""

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from sfisep_core.errors import ConfigError
from sfisep_core.foundation.ray_workers import run_on_ray
from sfisep_core.foundation.workers import run_in_processes

Engine = Literal["local", "ray"]

_Job = TypeVar("_Job")
_Outcome = TypeVar("_Outcome")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where the jobs of a request run, and which of them are run.

    Attributes:
        jobs: Maximum number of parallel jobs, 1 or more. More than one local process is spawned, so
            that a script needs `if __name__ == "__main__":`.
        engine: "local": processes of this machine; a single job at a time runs in this process.
            "ray": workers of the Ray cluster at RAY_ADDRESS, or of a cluster that is started here.
        shard: "I/N" runs only every N-th job, starting with the I-th; None runs all.

    Raises:
        ConfigError: A value is out of range or of another form.
    """

    jobs: int = 1
    engine: Engine = "local"
    shard: str | None = None

    def __post_init__(self) -> None:
        """Check values."""
        if self.jobs < 1:
            msg = f"jobs: expected 1 or more at the same time, got {self.jobs}"
            raise ConfigError(msg)
        if self.engine not in get_args(Engine):
            msg = f"engine {self.engine!r}: expected {' or '.join(get_args(Engine))}"
            raise ConfigError(msg)
        if self.shard is not None:
            parse_shard(self.shard)

    def share(self, jobs: Sequence[_Job]) -> list[_Job]:
        """Return the jobs of the shard, or all jobs without a shard.

        Args:
            jobs: All jobs, in an order that is the same in every shard.
        """
        number, count = (1, 1) if self.shard is None else parse_shard(self.shard)
        return list(jobs[number - 1 :: count])

    def workers(self, num_jobs: int) -> int:
        """Return the number of processes for a number of jobs; 0: this process runs them."""
        workers = min(self.jobs, num_jobs)
        return workers if self.engine == "ray" or workers > 1 else 0


def run_jobs(
    function: Callable[[_Job], _Outcome],
    jobs: Sequence[_Job],
    execution: Execution,
    *,
    on_gpu: bool = False,
    killed: Callable[[_Job], _Outcome] | None = None,
) -> Generator[tuple[_Job, _Outcome], None, None]:
    """Apply a function to every job, in any order.

    Closing the generator, or an exception in it, ends the workers, which clean up as after an
    exception. They also end if this process ends. Their log messages are logged in this process.

    Args:
        function: A module-level function, so that other processes can import it.
        jobs: The jobs of the shard.
        execution: Where they run.
        on_gpu: Whether each worker of a cluster uses a GPU, the only one that is visible to it.
        killed: Builds the outcome of a job whose process was killed; other jobs continue. None
            raises an error instead.

    Yields:
        A job and its outcome, as soon as it is available.

    Raises:
        ConfigError: Ray is not installed, or too old.
        DeviceError: The cluster does not exist, or has no GPUs.
        WorkerError: A process was killed.
        Exception: Any exception of the function.
    """
    workers = execution.workers(len(jobs))
    if not jobs:
        return
    if workers == 0:
        for job in jobs:
            yield job, function(job)
    elif execution.engine == "ray":
        yield from run_on_ray(function, jobs, workers=workers, on_gpu=on_gpu, killed=killed)
    else:
        yield from run_in_processes(function, jobs, workers=workers, killed=killed)


def parse_shard(text: str) -> tuple[int, int]:
    """Parse a shard written as `I/N`, the I-th of N.

    Raises:
        ConfigError: The text has another form, or I is outside 1..N.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        msg = f"shard {text!r}: expected I/N with I from 1 to N, e.g. 2/4 for the second of four"
        raise ConfigError(msg)
    return int(match[1]), int(match[2])
