"""Separate files on the machines of a Ray cluster."""

import logging
import os
import socket
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from sfisep_core.errors import ConfigError, DeviceError
from sfisep_core.separation.jobs import run_job
from sfisep_core.separation.plan import Job, Outcome

# A file whose worker dies is tried once more: the machine may have gone, or the file may kill it.
_TRIES = 2
_CONNECT_SECONDS = 10.0


def run_on_ray(jobs: Sequence[Job], *, workers: int) -> Generator[Outcome, None, None]:
    """Separate files with Ray, in any order; each worker keeps one model.

    Inputs and outputs are read and written by the workers: their paths have to mean the same on all
    machines. The cluster is that of the environment variable RAY_ADDRESS; without it, one is
    started on this machine, and ended afterwards. Closing the generator ends the workers.

    Args:
        jobs: The files.
        workers: How many work at the same time. A worker takes a GPU where the device is "cuda",
            else a CPU.

    Yields:
        What came of each file; one that twice ended its worker has failed.

    Raises:
        ConfigError: Ray is not installed.
        DeviceError: There is no such cluster.
    """
    try:
        import ray
        from ray.exceptions import RayActorError, RayError, RayTaskError
    except ImportError as error:
        msg = "engine ray: Ray is not installed: pip install 'sfisep[ray]', or leave --engine out"
        raise ConfigError(msg) from error
    started = not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS") or None
        try:
            if address:
                _check_address(address)
            ray.init(
                address=address,
                num_cpus=None if address else workers,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
        except (ConnectionError, OSError, ValueError, RayError) as error:
            msg = f"engine ray: expected a Ray cluster at RAY_ADDRESS={address}, got {error}"
            raise DeviceError(msg) from error
    on_gpu = jobs[0].setup.device.startswith("cuda")
    # Ray gives every worker GPUs of its own, which are its only ones.
    jobs = [replace(j, setup=replace(j.setup, device="cuda")) for j in jobs] if on_gpu else jobs
    # Workers that the cluster has no room for would wait for ever for those that are there.
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    room = resources.get("GPU" if on_gpu else "CPU", 0)
    if room < 1:
        kind = "GPUs" if on_gpu else "processors"
        msg = f"engine ray: expected a cluster with {kind}, found none: choose another --device"
        raise DeviceError(msg)
    workers = min(workers, len(jobs), int(room))
    actor = ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_restarts=0)(_Worker)
    waiting = [(job, 1) for job in reversed(jobs)]
    busy: dict[Any, tuple[Any, Job, int]] = {}
    idle: list[Any] = []
    try:
        idle += [actor.remote() for _ in range(workers)]
        while waiting or busy:
            while waiting and idle:
                worker, (job, tries) = idle.pop(), waiting.pop()
                busy[worker.run.remote(job)] = (worker, job, tries)
            (done,), _ = ray.wait(list(busy), num_returns=1)
            worker, job, tries = busy.pop(done)
            try:
                outcome = ray.get(done)
            except RayActorError:
                idle.append(actor.remote())
                if tries < _TRIES:
                    waiting.append((job, tries + 1))
                    continue
                error_text = (
                    f"{job.path}: its worker was ended {tries} times, as where memory runs out"
                )
                outcome = Outcome(job.path, None, error_text, (), job.setup.device)
            except RayTaskError as error:
                raise error.cause from error
            else:
                idle.append(worker)
            yield outcome
    finally:
        if started:
            ray.shutdown()
        else:
            for worker, _, _ in busy.values():
                ray.kill(worker)


def _check_address(address: str) -> None:
    """Raise an OSError where nothing listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


class _Worker:
    """Has one model at a time, see `jobs.separator_for`."""

    def run(self, job: Job) -> Outcome:
        return run_job(job)
