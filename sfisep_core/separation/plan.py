"""Files to separate and what came of them, as values that other processes can be sent.

What can be known of them without the model is checked here, without PyTorch.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sfisep_core.audio.formats import check_output_format
from sfisep_core.errors import ConfigError
from sfisep_core.results import SeparatedFile
from sfisep_core.separation.output import Output
from sfisep_core.separation.settings import DEFAULT_SETTINGS, SeparationSettings


@dataclass(frozen=True)
class SeparatorSetup:
    """What a process needs to make the separator of its jobs.

    Attributes:
        model: Name, path or address.
        device: See `Separator`.
        compiled: See `Separator`.
        settings: How all files are separated.
        threads: Of PyTorch; None = as they are.
    """

    model: str = "default"
    device: str = "auto"
    compiled: bool = False
    settings: SeparationSettings = DEFAULT_SETTINGS
    threads: int | None = None


@dataclass(frozen=True)
class Job:
    """One file.

    Attributes:
        path: The input.
        setup: What separates it.
        out_dir: Folder for the stems.
        track: Its name in theirs.
        sample_rate: Rate in Hz to separate and write at; None = the file's own.
        output: What is written, and how.
        skip_existing: Leave the file alone where everything is there that would be written.
    """

    path: Path
    setup: SeparatorSetup
    out_dir: Path
    track: str
    sample_rate: int | None = None
    output: Output = field(default_factory=Output)
    skip_existing: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a file.

    Attributes:
        path: The input.
        result: What was written; None where it failed or was skipped.
        error: Why it failed; None where it did not.
        warnings: What was found on the way.
        device: Where it was computed; of a file that was not begun, where it would have been; None
            for an input that stands for no file.
    """

    path: Path
    result: SeparatedFile | None
    error: str | None
    warnings: tuple[str, ...] = ()
    device: str | None = None

    @property
    def skipped(self) -> bool:
        """Whether everything was there already."""
        return self.result is None and self.error is None


def check_plan(jobs: Sequence[Job], sources: Sequence[str]) -> None:
    """Refuse, before any work is done, what none of the jobs can do.

    Args:
        jobs: With the same setup.
        sources: Stems of their model, in order.

    Raises:
        ConfigError: Stems that the model does not have, a format that
            cannot hold the rate, or a stem that would replace an input or another's stem.
    """
    inputs = {os.path.realpath(job.path): job.path for job in jobs}
    writers: dict[str, Path] = {}
    for job in jobs:
        if job.sample_rate is not None:  # the channels are known when the file is open
            check_output_format(job.output.container, job.output.encoding, 1, job.sample_rate)
        for file in job.output.files(job.track, job.out_dir, sources).values():
            place = os.path.realpath(file)
            if place in inputs:
                msg = f"{inputs[place]} would be replaced by the stem {file}: change --out"
                raise ConfigError(msg)
            if writers.setdefault(place, job.path) != job.path:
                msg = f"{writers[place]} and {job.path} would both write {file}: change --filename"
                raise ConfigError(msg)


def is_done(job: Job, sources: Sequence[str]) -> bool:
    """Tell whether a job is to be skipped, because all that it would write is there."""
    files = job.output.files(job.track, job.out_dir, sources).values()
    return job.skip_existing and all(map(_is_written, files))


def expected_seconds(path: Path) -> float | None:
    """Read from its header how long a recording is; None where that is no quick look."""
    import soundfile  # here, because the rest needs no libsndfile

    if not os.path.isfile(path):  # a pipe can be read once only
        return None
    try:
        info = soundfile.info(path)
    except (OSError, RuntimeError):  # of another format, or damaged: separating it will tell
        return None
    # Headers that do not know the length say it is the longest that there can be.
    return info.duration if info.frames < 2**62 else None


def _is_written(file: Path) -> bool:
    # os.path answers "no" where pathlib raises: a name too long, a folder that may not be read.
    return os.path.isfile(file) and os.path.getsize(file) > 0
