"""Separate one file as a job; errors are part of its outcome."""

import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from sfisep_core.devices import threads_of_worker, worker_device
from sfisep_core.errors import SfisepError
from sfisep_core.foundation.exit_signals import raise_received
from sfisep_core.foundation.jobs import Execution
from sfisep_core.foundation.memory import share_one_heap
from sfisep_core.separation.listening import page_of_stems
from sfisep_core.separation.plan import (
    Outcome,
    SeparationJob,
    SeparatorSetup,
    check_plan,
    is_done,
    skipped,
)
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import Progress


@lru_cache(maxsize=1)
def separator_for(setup: SeparatorSetup) -> Separator:
    """Build a separator; the last one is cached for later files.

    Raises:
        CheckpointError: The model is missing or cannot be read.
        ConfigError: A device is not available, or a setting is out of range.
    """
    share_one_heap()
    if setup.threads is not None:
        torch.set_num_threads(setup.threads)
    return Separator(setup.model, setup.settings, device=setup.device, compiled=setup.compiled)


def check_jobs(jobs: Sequence[SeparationJob], execution: Execution) -> list[SeparationJob]:
    """Check, before any work is done, that the jobs can run; divide the cores among workers.

    Args:
        jobs: Jobs with the same setup.
        execution: Where they run.

    Returns:
        The jobs to run.

    Raises:
        CheckpointError: The model is missing or cannot be read.
        ConfigError: A device is not available, a setting is out of range, the model does not have a
            stem, or a stem would replace an input or another input's stem.
    """
    separator_for.cache_clear()  # the model's file may have changed since an earlier run
    separator = separator_for(jobs[0].setup)
    check_plan(jobs, separator.sources)
    workers = execution.workers(len(jobs))
    if workers == 0:
        return list(jobs)
    # The device is chosen, and logged, once.
    setup = replace(
        jobs[0].setup,
        device=worker_device(str(separator.device), execution),
        threads=threads_of_worker(workers),
    )
    return [replace(job, setup=setup) for job in jobs]


def run_job(job: SeparationJob, progress: Progress | None = None) -> Outcome:
    """Separate a file; errors are part of the outcome, so that later files still run."""
    result, error, device = None, None, job.setup.device
    with _warnings() as warnings:
        try:
            separator = separator_for(job.setup)
            device = str(separator.device)
            if is_done(job, separator.sources):
                error = skipped(job, separator.sources).error
            else:
                written = separator.separate_file(
                    job.path,
                    out_dir=job.out_dir,
                    track=job.track,
                    sample_rate=job.sample_rate,
                    output=job.output,
                    progress=progress,
                )
                page = page_of_stems(written.stems, job.track) if job.page else None
                result = replace(written, page=page)
        except SfisepError as caught:
            raise_received()
            error = str(caught)
        except Exception as caught:
            raise_received()
            error = _unexpected(job.path, caught)
    return Outcome(job.path, result, error, tuple(warnings), device)


def _unexpected(path: Path, error: Exception) -> str:
    """Describe an unexpected error in as much detail as a bug report needs."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{path}: unexpected {type(error).__name__} in {Path(place.filename).name}, line "
        f"{place.lineno}: {error}: please report this"
    )


def killed(job: SeparationJob) -> Outcome:
    """Build the outcome of a file whose process was killed."""
    error = (
        f"{job.path}: the process that separated it was killed, as happens where memory runs out: "
        "run the same command again with fewer --jobs and --skip-existing"
    )
    return Outcome(job.path, None, error, (), job.setup.device)


@contextmanager
def _warnings() -> Iterator[Sequence[str]]:
    """Collect messages logged as a warning or worse."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("sfisep_core")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
