"""Run the jobs of `sfisep separate`, and say what came of each: in lines, and as JSON."""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfisep_cli.inputs import STANDARD_STREAM, on_disk
from sfisep_cli.overall_progress import overall_progress
from sfisep_cli.render import show_error
from sfisep_core.wording import counted

if TYPE_CHECKING:
    from sfisep_core.separation.plan import Job, Outcome

SCHEMA = "sfisep-separation-1"
"""Changes whenever a field changes its meaning or is no longer there."""


def run_all(
    files: Sequence["Job"],
    *,
    sources: Sequence[str] | None,
    jobs: int,
    on_ray: bool,
    quiet: bool,
) -> list["Outcome"]:
    """Separate files with a progress bar, and show what is wrong with any as soon as it is known.

    Args:
        files: One job each.
        sources: Stems of the model; None where only the loaded model tells.
        jobs: Processes.
        on_ray: Whether they are workers of a Ray cluster.
        quiet: Without the bar.

    Returns:
        What came of each, in their order.
    """
    from sfisep_core.separation.plan import Outcome, is_done

    outcomes: dict[Path, Outcome] = {}
    if sources is not None:
        outcomes = {
            job.path: Outcome(job.path, None, None, (), job.setup.device)
            for job in files
            if is_done(job, sources)
        }
    rest = [job for job in files if job.path not in outcomes]
    if rest:  # only now is PyTorch loaded
        with closing(_run(rest, jobs=jobs, on_ray=on_ray, quiet=quiet)) as work:
            for outcome in work:
                outcomes[outcome.path] = outcome
                if outcome.error is not None:
                    show_error(outcome.error)
    return [outcomes[job.path] for job in files]


def _run(
    files: Sequence["Job"], *, jobs: int, on_ray: bool, quiet: bool
) -> Generator["Outcome", None, None]:
    """Separate files with a progress bar, and yield what came of each as soon as it is known."""
    from sfisep_core.separation.jobs import check_jobs, run_in_processes, run_job
    from sfisep_core.separation.ray_engine import run_on_ray

    files = check_jobs(files, processes=min(jobs, len(files)))
    here = [
        job
        for job in files
        if job.path == STANDARD_STREAM or (not on_ray and min(jobs, len(files)) == 1)
    ]
    others = [job for job in files if job not in here]
    with overall_progress([job.path for job in files], quiet=quiet) as progress:
        for job in here:
            progress.begin(job.path)
            with on_disk(job.path) as path:
                outcome = run_job(replace(job, path=path), progress.report)
            error = outcome.error and outcome.error.replace(str(path), str(job.path))
            yield replace(outcome, path=job.path, error=error)
            progress.finish(job.path)
        if others:
            progress.begin_together()
            run = run_on_ray if on_ray else run_in_processes
            with closing(run(others, workers=jobs)) as work:
                for outcome in work:
                    yield outcome
                    progress.finish(outcome.path)


def summary_lines(
    outcomes: Sequence["Outcome"], failures: Mapping[Path, str], *, to_stdout: bool
) -> list[str]:
    """Describe what came of a whole call: the files that were written, each on a line.

    Args:
        outcomes: Of the files that were worked on.
        failures: Messages for inputs that stand for no file.
        to_stdout: Whether the one stem was written to standard output.
    """
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    several = len(outcomes) + len(failures) > 1
    facts = {(result.sample_rate, result.channels) for result in results}
    lines = []
    for outcome in outcomes:
        result = outcome.result
        if outcome.skipped:
            lines.append(f"{outcome.path}: its stems are all there already")
        if result is None:
            continue
        parts = [f"{result.seconds:.1f} s of music in {result.elapsed:.1f} s"]
        if not several or len(facts) > 1:
            parts.append(_signal(result.sample_rate, result.channels))
        if result.gain_db:
            parts.append(f"turned down by {-result.gain_db:.1f} dB so that no stem clips")
        lines.append(f"{outcome.path}: {', '.join(parts)}")
        if not to_stdout:
            lines += map(str, result.stems.values())
    if several:
        failed = len(failures) + sum(outcome.error is not None for outcome in outcomes)
        skipped = sum(outcome.skipped for outcome in outcomes)
        counts = [
            f"{number} {what}"
            for number, what in (
                (len(results), "separated"),
                (skipped, "there already"),
                (failed, "failed"),
            )
            if number
        ]
        line = f"{len(outcomes) + len(failures)} inputs: {', '.join(counts)}"
        if len(facts) == 1:
            line += f"; {_signal(*facts.pop())}"
        lines.append(line)
    return lines


def _signal(sample_rate: int, channels: int) -> str:
    return f"{sample_rate} Hz, {counted(channels, 'channel')}"


def json_report(
    outcomes: Sequence["Outcome"],
    *,
    failures: Mapping[Path, str],
    model: str,
) -> str:
    """Describe a whole call as JSON.

    Args:
        outcomes: Of the files that were worked on.
        failures: Messages for inputs that stand for no file.
        model: As the user named it.
    """
    from importlib.metadata import version

    from sfisep_core.pretrained.address import shown_name

    sha256 = None  # of the model's file, where a model was needed
    if not all(outcome.skipped for outcome in outcomes):
        from sfisep_core.pretrained.identity import identify_model

        sha256 = identify_model(model).sha256
    files = [_json_file(outcome) for outcome in outcomes]
    files += [
        {"path": str(path), "status": "failed", "error": message, "warnings": []}
        for path, message in failures.items()
    ]
    report = {
        "schema": SCHEMA,
        "version": version("sfisep"),
        "model": {"name": shown_name(model), "sha256": sha256},
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
