"""Separate audio files: one request, one call, one result."""

import json
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfisep_core.audio.formats import STEM_MP4
from sfisep_core.errors import ConfigError
from sfisep_core.foundation.jobs import Execution, run_jobs
from sfisep_core.models.sources import DEFAULT_SOURCES
from sfisep_core.pretrained.address import folder_name, member_names, shown_name
from sfisep_core.separation.inputs import STANDARD_STREAM, find_files, on_disk
from sfisep_core.separation.output import Output
from sfisep_core.separation.overall_progress import ShowProgress, overall_progress
from sfisep_core.separation.places import BESIDE, choose_places, without_stems
from sfisep_core.separation.plan import (
    Outcome,
    SeparationJob,
    SeparatorSetup,
    check_plan,
    check_same_sources,
    is_done,
    skipped,
)
from sfisep_core.separation.settings import DEFAULT_SETTINGS, SeparationSettings

SCHEMA = "sfisep-separation-1"
"""Changes whenever a field of the JSON changes its meaning or is removed."""

FILENAME = "{track}/{stem}.{ext}"
"""Pattern of a stem's file below OUT/MODEL."""

STEM_FILE_NAME = "{track}.{ext}"
"""Pattern of a file that holds all stems."""

_OUTPUT = Output(filename=FILENAME)


@dataclass(frozen=True, kw_only=True)
class SeparationRequest(Execution):
    """Request of `separate_files`; see `Execution` for jobs, engine and shard.

    Attributes:
        inputs: Audio files, folders, patterns with `*`, `?` or `[...]`, and "-" for standard input.
        out: Folder for the stems, OUT/MODEL/TRACK/STEM.wav, below which folders given as input are
            mirrored; created if missing. `BESIDE` = the folder of each input, TRACK/STEM.wav.
        model: Name, path or address; A+B averages the stems of both.
        sample_rate: Rate in Hz to separate and write at; None = each file's own.
        device: "auto", "cpu", "cuda" or "cuda:N".
        compiled: Whether to compile the network first, see `Separator`.
        settings: How all files are separated.
        output: What is written, and how. Its file names may also contain {parent} (name of the
            input's folder), {model} and {date} (year-month-day).
        skip_existing: Skip files whose stems all exist.
        page: Also write a page to listen to the stems of each file.
    """

    inputs: tuple[Path, ...]
    out: Path = Path("separated")
    model: str = "default"
    sample_rate: int | None = None
    device: str = "auto"
    compiled: bool = False
    settings: SeparationSettings = DEFAULT_SETTINGS
    output: Output = _OUTPUT
    skip_existing: bool = False
    page: bool = False


@dataclass(frozen=True)
class SeparationResult:
    """Result of a request.

    Attributes:
        request: The request.
        outcomes: Outcome of each file in the order of the inputs, then of inputs that match no
            file.
    """

    request: SeparationRequest
    outcomes: list[Outcome]

    @property
    def failed(self) -> bool:
        """Whether anything failed."""
        return any(outcome.error is not None for outcome in self.outcomes)

    def to_json(self) -> str:
        """Describe the result as strict JSON.

        Raises:
            CheckpointError: The model's file no longer exists.
        """
        from importlib.metadata import version

        sha256 = None  # digest of the model's file, if a model was needed
        if any(not outcome.skipped for outcome in self.outcomes if outcome.device is not None):
            from sfisep_core.pretrained.identity import identify_model

            members = member_names(self.request.model)
            sha256 = "+".join(identify_model(name).sha256 for name in members)
        report = {
            "schema": SCHEMA,
            "version": version("sfisep"),
            "model": {"name": shown_name(self.request.model), "sha256": sha256},
            "files": [_described(outcome) for outcome in self.outcomes],
            "failed": sum(outcome.error is not None for outcome in self.outcomes),
        }
        return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)


def separate_files(
    request: SeparationRequest,
    *,
    progress: ShowProgress | None = None,
    finished: Callable[[Outcome], None] | None = None,
) -> SeparationResult:
    """Separate audio files. One that fails does not stop the others.

    All possible checks are done before the first file, and those that need no model before PyTorch
    is loaded.

    Args:
        request: What to separate, and how.
        progress: Called with seconds of music done, total seconds, and a label.
        finished: Called with the outcome of each input as soon as it is known.

    Returns:
        Outcomes of all inputs.

    Raises:
        CheckpointError: The model is missing or cannot be read.
        ConfigError: An option or a combination of options is invalid, or a stem would replace an
            input or another input's stem.
        DeviceError: There is no Ray cluster.
    """
    tell = finished or (lambda _: None)
    jobs, failures = _plan(request)
    for failure in failures:
        tell(failure)
    outcomes: dict[Path, Outcome] = {}
    sources = _check_early(request, jobs)
    for job in jobs:
        if sources is not None and is_done(job, sources):
            outcomes[job.path] = skipped(job, sources)
            tell(outcomes[job.path])
    rest = [job for job in jobs if job.path not in outcomes]
    if rest:  # PyTorch is loaded only now
        with closing(_run(rest, request, progress)) as work:
            for outcome in work:
                outcomes[outcome.path] = outcome
                tell(outcome)
    return SeparationResult(request, [*(outcomes[job.path] for job in jobs), *failures])


def _plan(request: SeparationRequest) -> tuple[list[SeparationJob], list[Outcome]]:
    """Turn inputs into jobs, and inputs that match no file into failures."""
    beside, model, output = request.out == BESIDE, folder_name(request.model), request.output
    if not beside and os.path.exists(request.out) and not os.path.isdir(request.out):
        msg = f"folder of stems {request.out}: expected a folder, got a file: choose another folder"
        raise ConfigError(msg)
    if request.page and output.container == STEM_MP4:
        msg = (
            "a page plays one file for each stem, and stem.mp4 is one for all: leave --page out, "
            "or choose another --format"
        )
        raise ConfigError(msg)
    outputs = () if beside else (request.out, request.out / model)
    files, failures = find_files(request.inputs, outputs=outputs)
    if beside:
        sources = {*DEFAULT_SOURCES, *(_known_stems(request.model) or ())}
        files = without_stems(files, model=model, output=output, sources=sources)
    places = choose_places(files, out=request.out, model=model, output=output)
    setup = SeparatorSetup(request.model, request.device, request.compiled, request.settings)
    jobs = [
        SeparationJob(
            place.path,
            setup,
            place.folder,
            place.track,
            request.sample_rate,
            replace(output, filename=place.filename),
            request.skip_existing,
            request.page,
        )
        for place in request.share(places)
    ]
    return jobs, [Outcome(path, None, message) for path, message in failures.items()]


def _check_early(request: SeparationRequest, jobs: Sequence[SeparationJob]) -> Sequence[str] | None:
    """Run the checks that need no model; return its stems, or None if only the model has them."""
    from sfisep_core.pretrained.registry import known_sources

    if not jobs:
        return None
    sources = _known_stems(request.model)
    if request.settings.options.network:
        known_sources(request.settings.options.network)
    if sources is not None:
        check_plan(jobs, sources)
    return sources


def _known_stems(model: str) -> Sequence[str] | None:
    """Return the stems of a model, or of several; None if only the model has them."""
    from sfisep_core.pretrained.registry import known_sources

    by_name = {name: known_sources(name) for name in member_names(model)}
    known = {name: sources for name, sources in by_name.items() if sources is not None}
    if known:
        check_same_sources(known)
    return next(iter(known.values()), None)


def _run(
    jobs: Sequence[SeparationJob], request: SeparationRequest, progress: ShowProgress | None
) -> Generator[Outcome, None, None]:
    """Separate files, and yield the outcome of each as soon as it is known."""
    from sfisep_core.separation.jobs import check_jobs, killed, run_job

    jobs = check_jobs(jobs, request)
    bar = overall_progress([job.path for job in jobs], progress)

    def run_here(job: SeparationJob) -> Outcome:
        bar.begin(job.path)
        with on_disk(job.path) as path:
            outcome = run_job(replace(job, path=path), bar.report)
        error = outcome.error and outcome.error.replace(str(path), str(job.path))
        return replace(outcome, path=job.path, error=error)

    # Only this process can read standard input.
    others = [job for job in jobs if job.path != STANDARD_STREAM]
    here = [job for job in jobs if job not in others]
    if request.workers(len(jobs)) == 0:
        here, others = list(jobs), []
    for job, outcome in run_jobs(run_here, here, Execution()):
        yield outcome
        bar.finish(job.path)
    if not others:
        return
    bar.begin_together()
    on_gpu = others[0].setup.device.startswith("cuda")
    with closing(run_jobs(run_job, others, request, on_gpu=on_gpu, killed=killed)) as work:
        for job, outcome in work:
            yield outcome
            bar.finish(job.path)


def _described(outcome: Outcome) -> dict[str, Any]:
    result = outcome.result
    described: dict[str, Any] = {
        "path": str(outcome.path),
        "status": "failed" if outcome.error else "separated" if result else "skipped",
        "error": outcome.error,
        "warnings": list(outcome.warnings),
    }
    if outcome.device is not None:
        described["device"] = outcome.device
    if result is None:
        return described
    return described | {
        "stems": {name: str(file) for name, file in result.stems.items()},
        "page": None if result.page is None else str(result.page),
        "sample_rate": result.sample_rate,
        "channels": result.channels,
        "frames": result.frames,
        "seconds": result.seconds,
        "elapsed_seconds": round(result.elapsed, 3),
        # Seconds of music per second of work.
        "real_time_factor": round(result.seconds / max(result.elapsed, 1e-9), 3),
        "gain_db": result.gain_db,
    }
