"""Run independent jobs: in this process, in local ones, or on a Ray cluster, by one call.

A job is a frozen value that can be pickled, and a function of a module makes an outcome of it.
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
    """Where the jobs of a request run, and which of them.

    Attributes:
        jobs: How many run at the same time, 1 or more. More than one local process starts afresh,
            so that a script needs its `if __name__ == "__main__":`.
        engine: "local": processes of this machine; a single job at a time runs in this process.
            "ray": workers of the Ray cluster at RAY_ADDRESS, or of one that is started here.
        shard: "I/N" does every N-th job only, beginning with the I-th; None does all.

    Raises:
        ConfigError: A value is out of range or of another form.
    """

    jobs: int = 1
    engine: Engine = "local"
    shard: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.jobs < 1:
            msg = f"jobs: expected 1 or more at the same time, got {self.jobs}"
            raise ConfigError(msg)
        if self.engine not in get_args(Engine):
            msg = f"engine {self.engine!r}: expected {' or '.join(get_args(Engine))}"
            raise ConfigError(msg)
        if self.shard is not None:
            parse_shard(self.shard)

    def share(self, jobs: Sequence[_Job]) -> list[_Job]:
        """Select the jobs of the shard; all of them without one.

        Args:
            jobs: All jobs, in an order that is the same in every shard.
        """
        number, count = (1, 1) if self.shard is None else parse_shard(self.shard)
        return list(jobs[number - 1 :: count])

    def workers(self, num_jobs: int) -> int:
        """Count the processes for so many jobs; 0: this one does them."""
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

    Closing the generator, or an exception in it, ends the workers; what they were doing is cleaned
    up as after an exception. They also end by themselves when this process is gone. What they log
    is logged here.

    Args:
        function: Of a module, so that other processes find it.
        jobs: Those of the shard.
        execution: Where they run.
        on_gpu: Whether each worker of a cluster takes a GPU, which it then sees as its only one.
        killed: Makes the outcome of a job whose process was killed; the others go on. None raises
            an error instead.

    Yields:
        A job and its outcome, as soon as there is one.

    Raises:
        ConfigError: Ray is not installed, or too old.
        DeviceError: There is no such cluster, or none with GPUs.
        WorkerError: A process was killed.
        Exception: Whatever the function raised.
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
    """Read a share of the work written as `I/N`, the I-th of N.

    Raises:
        ConfigError: A text of another form, or I outside 1..N.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        msg = f"shard {text!r}: expected I/N with I from 1 to N, e.g. 2/4 for the second of four"
        raise ConfigError(msg)
    return int(match[1]), int(match[2])
