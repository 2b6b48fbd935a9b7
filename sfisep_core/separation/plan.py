"""Jobs and their outcomes, as values that can be sent to other processes.

Checks that do not need the model are done here, without PyTorch.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sfisep_core.audio.formats import check_output_format
from sfisep_core.errors import ConfigError, SfisepError
from sfisep_core.results import SeparatedFile
from sfisep_core.separation.output import Output
from sfisep_core.separation.settings import DEFAULT_SETTINGS, SeparationSettings


@dataclass(frozen=True)
class SeparatorSetup:
    """What a process needs to build the separator of its jobs.

    Attributes:
        model: Name, path or address.
        device: See `Separator`.
        compiled: See `Separator`.
        settings: How all files are separated.
        threads: Number of PyTorch threads; None = unchanged.
    """

    model: str = "default"
    device: str = "auto"
    compiled: bool = False
    settings: SeparationSettings = DEFAULT_SETTINGS
    threads: int | None = None


@dataclass(frozen=True)
class SeparationJob:
    """Separation of one file.

    Attributes:
        path: The input.
        setup: The separator.
        out_dir: Folder for the stems.
        track: Name of the track in the stems' names.
        sample_rate: Rate in Hz to separate and write at; None = the file's own.
        output: What is written, and how.
        skip_existing: Skip the file if all its stems exist.
        page: Also write a page to listen to the stems.
    """

    path: Path
    setup: SeparatorSetup
    out_dir: Path
    track: str
    sample_rate: int | None = None
    output: Output = field(default_factory=Output)
    skip_existing: bool = False
    page: bool = False


@dataclass(frozen=True)
class Outcome:
    """Result of a job.

    Attributes:
        path: The input.
        result: The written files; None if the job failed or was skipped.
        error: Why it failed; None if it did not.
        warnings: Warnings logged during the job.
        device: Device of the computation (or the intended one, if it was not started); None for an
            input that matches no file.
    """

    path: Path
    result: SeparatedFile | None
    error: str | None
    warnings: tuple[str, ...] = ()
    device: str | None = None

    @property
    def skipped(self) -> bool:
        """Whether all outputs existed already."""
        return self.result is None and self.error is None


def check_same_sources(sources: Mapping[str, Sequence[str]]) -> None:
    """Check that the stems of all models can be averaged by name.

    Args:
        sources: Stems by model.

    Raises:
        ConfigError: Two models have different stems.
    """
    (first, expected), *others = sources.items()
    for name, got in others:
        if set(got) != set(expected):
            msg = (
                f"models {first} and {name}: expected the same stems, got {', '.join(expected)} "
                f"and {', '.join(got)}: choose models whose stems have the same names"
            )
            raise ConfigError(msg)


def check_plan(jobs: Sequence[SeparationJob], sources: Sequence[str]) -> None:
    """Check, before any work is done, that the jobs are valid.

    Args:
        jobs: Jobs with the same setup.
        sources: Stems of their model, in order.

    Raises:
        ConfigError: The model does not have a stem, the format does not support the rate, or a stem
            would replace an input or another input's stem.
    """
    inputs = {os.path.realpath(job.path): job.path for job in jobs}
    writers: dict[str, Path] = {}
    for job in jobs:
        if job.sample_rate is not None:  # the number of channels is checked when the file is opened
            check_output_format(job.output.container, job.output.encoding, 1, job.sample_rate)
        for file in job.output.files(job.track, job.out_dir, sources).values():
            place = os.path.realpath(file)
            if place in inputs:
                msg = f"{inputs[place]} would be replaced by the stem {file}: change --out"
                raise ConfigError(msg)
            if writers.setdefault(place, job.path) != job.path:
                msg = f"{writers[place]} and {job.path} would both write {file}: change --filename"
                raise ConfigError(msg)


def is_done(job: SeparationJob, sources: Sequence[str]) -> bool:
    """Tell whether a job is to be skipped, because all its stems exist."""
    files = job.output.files(job.track, job.out_dir, sources).values()
    return job.skip_existing and all(map(_is_written, files))


def skipped(job: SeparationJob, sources: Sequence[str]) -> Outcome:
    """Return the outcome of a job that is done, once its page, if it lacks one, is made."""
    error = None
    if job.page:
        from sfisep_core.separation.listening import page_of_stems, page_path  # decodes audio

        stems = job.output.files(job.track, job.out_dir, sources)
        try:
            if not _is_written(page_path(stems, job.track)):
                page_of_stems(stems, job.track)
        except SfisepError as caught:
            error = str(caught)
    return Outcome(job.path, None, error, device=job.setup.device)


def expected_seconds(path: Path) -> float | None:
    """Read the length of a recording from its header; None if this is not quickly possible."""
    # Imported here, because the rest does not need libsndfile.
    from sfisep_core.audio.endings import id3_end
    from sfisep_core.audio.sequential_file import StoppedError, open_sequential
    from sfisep_core.audio.source_files import FileView

    if not os.path.isfile(path):  # a pipe can be read only once
        return None
    try:
        with (
            path.open("rb", buffering=0) as raw,
            # libsndfile takes minutes for a tag of many frames.
            open_sequential(FileView(raw, start=id3_end(raw))) as file,
        ):
            frames, sample_rate = int(file.frames), int(file.samplerate)
    except (OSError, StoppedError):  # another format, or damaged: separation reports it
        return None
    # Headers without a length yield the largest possible value.
    return frames / sample_rate if frames < 2**62 else None


def _is_written(file: Path) -> bool:
    # os.path returns False where pathlib raises: a name too long, a folder without permission.
    return os.path.isfile(file) and os.path.getsize(file) > 0
