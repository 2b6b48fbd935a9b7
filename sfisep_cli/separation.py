"""Run a request of `sfisep separate`, and show the outcome of each file."""

from collections.abc import Sequence
from dataclasses import replace

import typer

from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.render import progress_bar, show_error, show_message
from sfisep_cli.standard_streams import show_json, write_to_stdout
from sfisep_core.errors import ConfigError
from sfisep_core.separation.inputs import STANDARD_STREAM, find_files
from sfisep_core.separation.plan import Outcome
from sfisep_core.separation.separate import SeparationRequest, SeparationResult, separate_files
from sfisep_core.wording import counted

_DEFAULT_MODEL = "default"
_STRONGER = (
    "there are stronger models, which are downloaded and take longer, such as --model scnet; "
    "`sfisep models list` shows all"
)


def run(request: SeparationRequest, *, as_json: bool, quiet: bool) -> None:
    """Run a request with a progress bar, and show its result.

    Args:
        request: The request; its folder "-" means standard output.
        as_json: Print a description of everything as JSON.
        quiet: Show errors only.

    Raises:
        Exit: A file failed.
    """
    to_stdout = request.out == STANDARD_STREAM
    if to_stdout:
        _check_stdout(request, as_json=as_json)
        result = _to_stdout(request, quiet=quiet)
    else:
        result = _separate(request, quiet=quiet)
    if as_json:
        show_json(result.to_json())
    elif not quiet:
        for line in _summary_lines(result.outcomes, to_stdout=to_stdout):
            show_message(line)
        if request.model == _DEFAULT_MODEL and any(outcome.result for outcome in result.outcomes):
            show_message(_STRONGER)
    if result.failed:
        raise typer.Exit(ExitCode.FAILED)


def _separate(request: SeparationRequest, *, quiet: bool) -> SeparationResult:
    """Separate with a progress bar, and show errors as soon as they occur."""

    def show_failure(outcome: Outcome) -> None:
        if outcome.error is not None:
            show_error(outcome.error)

    with progress_bar(quiet=quiet) as show_progress:
        progress = None if quiet else show_progress
        return separate_files(request, progress=progress, finished=show_failure)


def _to_stdout(request: SeparationRequest, *, quiet: bool) -> SeparationResult:
    """Separate into a temporary folder, and write the first stem to standard output."""
    from sfisep_core.foundation.temporary_folders import temporary_folder

    with temporary_folder() as folder:
        result = _separate(replace(request, out=folder), quiet=quiet)
        if result.outcomes and result.outcomes[0].result is not None:
            write_to_stdout(next(iter(result.outcomes[0].result.stems.values())))
    if any(str(folder) in (outcome.error or "") for outcome in result.outcomes):
        show_error(
            f"--out - keeps the stem below {folder.parent} until it is whole: set TMPDIR to "
            "a folder with more room"
        )
    return result


def _check_stdout(request: SeparationRequest, *, as_json: bool) -> None:
    """Check that only one output goes to standard output."""
    inputs, output = request.inputs, request.output
    one_stem = output.two_stems is not None or len(output.stems or ()) == 1
    if len(inputs) != 1 or inputs[0].is_dir() or not one_stem:
        msg = "--out - writes one stem of one file: name one file, and --two-stems STEM"
        raise ConfigError(msg)
    if request.page:
        msg = "--page writes a page beside the stems: name a folder with --out, or leave it out"
        raise ConfigError(msg)
    if as_json:
        msg = "--out - and --json both write to standard output: leave one of them out"
        raise ConfigError(msg)
    paths, _ = find_files(inputs, outputs=())
    if len(paths) > 1:
        msg = f"--out - writes one stem of one file: {inputs[0]} stands for {len(paths)} files"
        raise ConfigError(msg)


def _summary_lines(outcomes: Sequence[Outcome], *, to_stdout: bool) -> list[str]:
    """Describe the result of a whole call: the written files, one per line.

    Args:
        outcomes: Outcomes of all inputs.
        to_stdout: Whether the one stem was written to standard output.
    """
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    several = len(outcomes) > 1
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
            lines += map(str, dict.fromkeys(result.stems.values()))
        if result.page is not None:
            lines.append(str(result.page))
    if several:
        failed = [outcome.path for outcome in outcomes if outcome.error is not None]
        lines += [f"{path}: failed" for path in failed]  # why was said when they did
        skipped = sum(outcome.skipped for outcome in outcomes)
        counts = [
            f"{number} {what}"
            for number, what in (
                (len(results), "separated"),
                (skipped, "there already"),
                (len(failed), "failed"),
            )
            if number
        ]
        line = f"{len(outcomes)} inputs: {', '.join(counts)}"
        if len(facts) == 1:
            line += f"; {_signal(*facts.pop())}"
        lines.append(line)
    return lines


def _signal(sample_rate: int, channels: int) -> str:
    return f"{sample_rate} Hz, {counted(channels, 'channel')}"
