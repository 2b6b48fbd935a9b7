"""Run the jobs of `sfisep separate`, and say what came of each: as a table, and as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfisep_cli.inputs import STANDARD_STREAM, on_disk
from sfisep_cli.render import progress_bar, show_error

if TYPE_CHECKING:
    from sfisep_core.separation.jobs import Job, Outcome

SCHEMA = "sfisep-separation-1"
"""Changes whenever a field changes its meaning or is no longer there."""

COLUMNS = ("input", "stems", "rate", "channels", "length", "took", "gain")


def run_all(files: Sequence["Job"], *, jobs: int, on_ray: bool, quiet: bool) -> list["Outcome"]:
    """Separate files with a progress bar, and show what is wrong with any as soon as it is known.

    Args:
        files: One job each.
        jobs: Processes.
        on_ray: Whether they are workers of a Ray cluster.
        quiet: Without the bar.

    Returns:
        What came of each, in their order.
    """
    from sfisep_core.separation.jobs import check_jobs, run_in_processes, run_job
    from sfisep_core.separation.ray_engine import run_on_ray

    files = check_jobs(files, processes=min(jobs, len(files)))
    outcomes: dict[Path, Outcome] = {}

    def take(outcome: "Outcome") -> None:
        outcomes[outcome.path] = outcome
        if outcome.error is not None:
            show_error(outcome.error)

    with progress_bar(quiet=quiet) as show_progress:

        def run_here(job: "Job") -> None:
            def report(done: float, total: float) -> None:
                show_progress(done, total, job.path.name)

            with on_disk(job.path) as path:
                outcome = run_job(replace(job, path=path), report)
            error = outcome.error and outcome.error.replace(str(path), str(job.path))
            take(replace(outcome, path=job.path, error=error))

        others = []
        for job in files:
            if job.path == STANDARD_STREAM or (not on_ray and min(jobs, len(files)) == 1):
                run_here(job)
            else:
                others.append(job)
        if others:
            run = run_on_ray if on_ray else run_in_processes
            with closing(run(others, workers=jobs)) as work:
                for outcome in work:
                    take(outcome)
                    show_progress(len(outcomes), len(files), outcome.path.name)
    return [outcomes[job.path] for job in files]


def table_row(outcome: "Outcome", folder: Path) -> tuple[str, ...]:
    """Describe what came of one file, in the order of `COLUMNS`."""
    result = outcome.result
    if result is None:
        return (str(outcome.path), "failed" if outcome.error else f"{folder}: there already")
    return (
        str(outcome.path),
        str(folder),
        f"{result.sample_rate} Hz",
        str(result.channels),
        f"{result.seconds:.1f} s",
        f"{result.elapsed:.1f} s",
        f"{result.gain_db:+.1f} dB",
    )


def json_report(
    outcomes: Iterable["Outcome"],
    *,
    failures: Mapping[Path, str],
    model: str,
    model_sha256: str | None,
) -> str:
    """Describe a whole call as JSON.

    Args:
        outcomes: Of the files that were worked on.
        failures: Messages for inputs that stand for no file.
        model: As the user named it.
        model_sha256: Of its file; None where no model was needed.
    """
    files = [_json_file(outcome) for outcome in outcomes]
    files += [
        {"path": str(path), "status": "failed", "error": message, "warnings": []}
        for path, message in failures.items()
    ]
    report = {
        "schema": SCHEMA,
        "version": version("sfisep"),
        "model": {"name": model, "sha256": model_sha256},
        "files": files,
        "failed": sum(file["status"] == "failed" for file in files),
    }
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)


def _json_file(outcome: "Outcome") -> dict[str, Any]:
    result = outcome.result
    status = "failed" if outcome.error else "separated" if result else "skipped"
    described: dict[str, Any] = {
        "path": str(outcome.path),
        "status": status,
        "error": outcome.error,
        "warnings": list(outcome.warnings),
        "device": outcome.device,
    }
    if result is None:
        return described
    return described | {
        "stems": {name: str(file) for name, file in result.stems.items()},
        "sample_rate": result.sample_rate,
        "channels": result.channels,
        "frames": result.frames,
        "seconds": result.seconds,
        "elapsed_seconds": round(result.elapsed, 3),
        # Seconds of music for each second of work.
        "real_time_factor": round(result.seconds / max(result.elapsed, 1e-9), 3),
        "gain_db": result.gain_db,
    }
