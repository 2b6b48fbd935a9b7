"""Terminal output of the commands: progress, tables and errors."""

import logging
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.table import Column, Table
from rich.text import Text

from sfisep_core.wording import printable

console = Console(stderr=True, highlight=False, emoji=False)
"""For messages during the work: standard output is reserved for results that may be piped."""

output = Console(highlight=False, emoji=False)
"""For requested output."""

_BAR_WIDTH = 26  # beside the percentage and the remaining time
_LONGEST_NAME = 30  # longest first column that is not wrapped
_SECONDS_BETWEEN_LINES = 60.0  # of progress in a log file


def show_error(message: str) -> None:
    """Show one error message on standard error, on one line however long it is."""
    console.print(Text.assemble(("error: ", "bold red"), printable(message)), soft_wrap=True)


def show_message(message: str) -> None:
    """Show a message on standard error; above the progress bar while there is one."""
    console.print(Text(printable(message)), soft_wrap=True)


class _TerminalHandler(logging.Handler):
    """Shows the log messages of the core, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        show_message(prefix + record.getMessage())


_terminal_handler = _TerminalHandler()


def show_log(*, level: int) -> None:
    """Show the messages of the core from this level up; calling it again changes the level."""
    logger = logging.getLogger("sfisep_core")
    logger.addHandler(_terminal_handler)
    logger.setLevel(level)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, target: Console) -> None:
    """Show rows under headings.

    Args:
        columns: The headings.
        rows: One sequence of cells per row; missing cells at the end are empty.
        target: `console` for a summary of the work, `output` for requested output.
    """
    rows = list(rows)
    table = Table()
    for number, column in enumerate(columns):
        # Text to copy is never truncated, and names are not wrapped.
        short = number == 0 and all(len(row[0]) <= _LONGEST_NAME for row in rows)
        table.add_column(Text(printable(column)), overflow="fold", no_wrap=short)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    target.print(table)


def show_entries(entries: Iterable[tuple[Sequence[str], str]], columns: Sequence[str]) -> None:
    """Show a list on standard output: a line of facts per entry, and its description below.

    Facts are never wrapped, even in a narrow terminal; descriptions are, between words.

    Args:
        entries: Facts, in the order of the columns, and description of each.
        columns: Headings of the facts.
    """
    entries = list(entries)
    rows = [tuple(columns), *(tuple(facts) for facts, _ in entries)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    descriptions = ["", *(description for _, description in entries)]
    for cells, description in zip(rows, descriptions, strict=True):
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        show_output(line.rstrip())
        for part in textwrap.wrap(
            description, output.width - 4, break_long_words=False, break_on_hyphens=False
        ):
            show_output(f"    {part}")


def show_output(line: str) -> None:
    """Show a line on standard output, which is never broken."""
    output.print(Text(printable(line)), soft_wrap=True)


class Pace:
    """Estimates the remaining time of some work from its mean speed so far."""

    def __init__(self) -> None:
        self._total = 0.0
        self._begun = self._last = (0.0, 0.0)

    def note(self, done: float, total: float, *, now: float) -> None:
        """Update the progress of the work.

        Args:
            done: Amount done; if it is less than before, or the total has changed, new work starts
                here.
            total: Total amount, in the same unit.
            now: Seconds of a monotonic clock.
        """
        if total != self._total or done < self._last[1]:
            self._total, self._begun = total, (now, done)
        self._last = (now, done)

    def seconds_left(self, *, now: float) -> float | None:
        """Return the estimated remaining seconds; None before there is an estimate."""
        (begun, first), (last, done) = self._begun, self._last
        if done <= first:
            return None
        left = (last - begun) / (done - first) * (self._total - done)
        return max(0.0, left - (now - last))


class _TimeLeft(ProgressColumn):
    """Shows the remaining time."""

    max_refresh = 0.5  # seconds

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        """Render for the only task."""
        del task
        return Text(_time_left(self._pace))


def _time_left(pace: Pace) -> str:
    left = pace.seconds_left(now=time.monotonic())
    return "-:--:-- left" if left is None else f"{timedelta(seconds=round(left))} left"


ShowProgress = Callable[[float, float, str], None]
"""Takes (done, total, label)."""


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[ShowProgress]:
    """Show a progress bar within the block; a line a minute if standard error is no terminal.

    Args:
        quiet: True for neither.

    Yields:
        A function of (done, total, label), to be called at the start and after each progress; done
        and total have the same unit, chosen by the caller. A new total restarts the bar.
    """
    pace = Pace()
    bar, last_line = not quiet and console.is_interactive, time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TaskProgressColumn(),
        _TimeLeft(pace),
        console=console,
        expand=True,
        transient=True,
        disable=not bar,
    ) as progress:
        task = progress.add_task("", total=None)

        def show(done: float, total: float, label: str) -> None:
            nonlocal last_line
            now = time.monotonic()
            pace.note(done, total, now=now)
            if not bar and not quiet and now >= last_line + _SECONDS_BETWEEN_LINES:
                last_line = now
                show_message(f"{label}: {done / max(total, 1):.0%}, {_time_left(pace)}")
            text = Text(printable(label))
            text.truncate(console.width - _BAR_WIDTH, overflow="ellipsis")
            progress.update(task, completed=done, total=total, description=escape(text.plain))

        yield show
