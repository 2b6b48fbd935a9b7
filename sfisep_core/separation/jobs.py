"""Separate one file as a job: what is wrong with it is part of the outcome."""

import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from sfisep_core.devices import share_one_heap, threads_of_worker, worker_device
from sfisep_core.errors import SfisepError
from sfisep_core.foundation.exit_signals import raise_received
from sfisep_core.foundation.jobs import Execution
from sfisep_core.separation.plan import Job, Outcome, SeparatorSetup, check_plan, is_done
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import Progress


@lru_cache(maxsize=1)
def separator_for(setup: SeparatorSetup) -> Separator:
    """Make a separator; the last one is kept for the files to come.

    Raises:
        CheckpointError: The model cannot be found or read.
        ConfigError: A device that is not there, or a setting out of range.
    """
    share_one_heap()
    if setup.threads is not None:
        torch.set_num_threads(setup.threads)
    return Separator(setup.model, setup.settings, device=setup.device, compiled=setup.compiled)


def check_jobs(jobs: Sequence[Job], execution: Execution) -> list[Job]:
    """Refuse, before any work is done, what none of the jobs can do; share out the processor.

    Args:
        jobs: With the same setup.
        execution: Where they are to run.

    Returns:
        The jobs as they are to be run.

    Raises:
        CheckpointError: The model cannot be found or read.
        ConfigError: A device that is not there, a setting out of range, stems that the model does
            not have, or a stem that would replace an input or another's stem.
    """
    separator_for.cache_clear()  # the model's file may be another one than in an earlier run
    separator = separator_for(jobs[0].setup)
    check_plan(jobs, separator.sources)
    workers = execution.workers(len(jobs))
    if workers == 0:
        return list(jobs)
    # The device was chosen, and named in the log, once.
    setup = replace(
        jobs[0].setup,
        device=worker_device(str(separator.device), execution),
        threads=threads_of_worker(workers),
    )
    return [replace(job, setup=setup) for job in jobs]


def run_job(job: Job, progress: Progress | None = None) -> Outcome:
    """Separate a file; whatever is wrong is part of the outcome, since others are to follow."""
    result, error, device = None, None, job.setup.device
    with _warnings() as warnings:
        try:
            separator = separator_for(job.setup)
            device = str(separator.device)
            if not is_done(job, separator.sources):
                result = separator.separate_file(
                    job.path,
                    out_dir=job.out_dir,
                    track=job.track,
                    sample_rate=job.sample_rate,
                    output=job.output,
                    progress=progress,
                )
        except SfisepError as caught:
            raise_received()
            error = str(caught)
        except Exception as caught:
            raise_received()
            error = _unexpected(job.path, caught)
    return Outcome(job.path, result, error, tuple(warnings), device)


def _unexpected(path: Path, error: Exception) -> str:
    """Describe an error that is none of ours: as much of it as a report of the defect needs."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{path}: unexpected {type(error).__name__} in {Path(place.filename).name}, line "
        f"{place.lineno}: {error}: please report this"
    )


def killed(job: Job) -> Outcome:
    """Describe what came of a file whose process was killed."""
    error = (
        f"{job.path}: the process that separated it was killed, as happens where memory runs out: "
        "run the same command again with fewer --jobs and --skip-existing"
    )
    return Outcome(job.path, None, error, (), job.setup.device)


@contextmanager
def _warnings() -> Iterator[Sequence[str]]:
    """Collect what is logged as a warning or worse."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("sfisep_core")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
