"""Common part of the commands that score: settings of methods, running, and showing results."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from sfisep_cli.exit_codes import ExitCode
from sfisep_cli.options import check_low_rate, check_models
from sfisep_cli.render import output, progress_bar, show_error, show_message, show_output
from sfisep_cli.score_table import score_lines
from sfisep_cli.standard_streams import show_json
from sfisep_core.errors import ConfigError
from sfisep_core.wording import counted

if TYPE_CHECKING:
    from sfisep_core.evaluation.requests import ScoringRequest, ScoringResult
    from sfisep_core.separation.settings import MethodOptions


def check_options(
    methods: Sequence[str],
    low_rate: int,
    network: str,
    model: str | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run the checks that are possible before PyTorch is loaded.

    Raises:
        CheckpointError: The model does not exist.
        ConfigError: Output is both requested and suppressed, or an option has no effect.
    """
    if as_json and quiet:
        msg = "--json and --quiet exclude each other: give one of them"
        raise ConfigError(msg)
    check_models(model, network)
    check_low_rate(methods, low_rate, network)


def method_options(
    kernel_noise: float | None, post_noise: float | None, low_rate: int, network: str
) -> "MethodOptions":
    """Build the settings of methods; None = the default level of noise."""
    from sfisep_core.separation.settings import MethodOptions

    options = MethodOptions(low_rate=low_rate, network=network)
    if kernel_noise is not None:
        options = replace(options, kernel_noise_level=kernel_noise)
    return options if post_noise is None else replace(options, post_noise_level=post_noise)


def run(
    score: Callable[..., "ScoringResult"],
    request: "ScoringRequest",
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a request with a progress bar, and show its result.

    Args:
        score: The core's function for this kind of request.
        request: The request.
        as_json: Print the tables as JSON.
        quiet: Show errors only.

    Raises:
        Exit: Something could not be scored.
    """
    with progress_bar(quiet=quiet) as show_progress:
        result = score(request, progress=show_progress)
    for failure in result.failures:
        where = f"{failure.track}, {failure.system} at {failure.sample_rate} Hz"
        show_error(f"{where}: {failure.message}")
    if as_json:
        show_json(result.to_json())
    elif not quiet:
        for line in score_lines(result, width=output.width):
            show_output(line)
    if not quiet:
        _show_places(result)
    if result.failures:
        raise typer.Exit(ExitCode.FAILED)


def _show_places(result: "ScoringResult") -> None:
    """Show how much was done, and where the files are."""
    old = len(result.scores) - result.computed
    new = f"{result.computed} score{'s' if result.computed != 1 else ''} computed"
    show_message(f"{new}, {old} {'was' if old == 1 else 'were'} there already: {result.out}")
    if result.comparison is None:
        show_message(
            f"shard {result.tables['shard']} is done; {counted(result.missing, 'score')} of other "
            "shards, or that failed, still missing. When the other shards are done, the same "
            "command without --shard writes the tables"
        )
        return
    if not result.scores:
        show_message(f"no tables are written: what is in {result.folder} stays as it is")
        return
    show_message(f"more in {result.folder}: summary.json and .csv, differences.csv, tracks.csv")
    if result.report is not None:
        show_message(f"report: {result.report}")
