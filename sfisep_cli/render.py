"""What the commands show in the terminal: progress, tables and errors."""

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
"""For what accompanies the work: standard output is kept for what a user may pipe on."""

output = Console(highlight=False, emoji=False)
"""For what a user asked to see."""

_BAR_WIDTH = 26  # with the percentage and the time left beside it
_LONGEST_NAME = 30  # of a first column that is not broken over lines


def show_error(message: str) -> None:
    """Show one error message on standard error, on one line however long it is."""
    console.print(Text.assemble(("error: ", "bold red"), printable(message)), soft_wrap=True)


def show_message(message: str) -> None:
    """Show a message on standard error; above the progress bar while there is one."""
    console.print(Text(printable(message)), soft_wrap=True)


class _TerminalHandler(logging.Handler):
    """Show what the core logs, above the progress bar while there is one."""

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
        rows: One sequence of cells per row; those it lacks at the end stay empty.
        target: `console` for the summary of some work, `output` for what the user asked to see.
    """
    rows = list(rows)
    table = Table()
    for number, column in enumerate(columns):
        # What a user is to type again is never cut short, and names are not broken.
        short = number == 0 and all(len(row[0]) <= _LONGEST_NAME for row in rows)
        table.add_column(Text(printable(column)), overflow="fold", no_wrap=short)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    target.print(table)


def show_entries(entries: Iterable[tuple[Sequence[str], str]], columns: Sequence[str]) -> None:
    """Show a list on standard output: a line of facts for each entry, and below it what it is.

    Facts are never broken, however narrow the terminal is; descriptions are, between words.

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
    """Foretell how long some work will still take: the rest goes at the mean pace so far."""

    def __init__(self) -> None:
        self._total = 0.0
        self._begun = self._last = (0.0, 0.0)

    def note(self, done: float, total: float, *, now: float) -> None:
        """Take in how far the work is.

        Args:
            done: So much is done; where it is less than before, or the total another, the work is
                another and begins here.
            total: So much is to be done, in the same unit.
            now: Seconds on any clock that only goes forward.
        """
        if total != self._total or done < self._last[1]:
            self._total, self._begun = total, (now, done)
        self._last = (now, done)

    def seconds_left(self, *, now: float) -> float | None:
        """Give the seconds that the work will still take; None before anything is known."""
        (begun, first), (last, done) = self._begun, self._last
        if done <= first:
            return None
        left = (last - begun) / (done - first) * (self._total - done)
        return max(0.0, left - (now - last))


class _TimeLeft(ProgressColumn):
    """Show how long the work will still take."""

    max_refresh = 0.5  # seconds

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        """Render for the one task that there is."""
        del task
        left = self._pace.seconds_left(now=time.monotonic())
        if left is None:
            return Text("-:--:-- left")
        return Text(f"{timedelta(seconds=round(left))} left")


ShowProgress = Callable[[float, float, str], None]
"""Takes (done, total, label)."""


def has_progress_bar(*, quiet: bool) -> bool:
    """Tell whether there is a progress bar: none where standard error is no terminal."""
    return not quiet and console.is_interactive


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[ShowProgress]:
    """Show a progress bar while the block runs.

    Args:
        quiet: True for no bar. There is none either where standard error is no terminal.

    Yields:
        A function of (done, total, label), to be called at the beginning and whenever something is
        done; done and total are in one unit of the caller's choice. A new total starts the bar
        anew.
    """
    pace = Pace()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TaskProgressColumn(),
        _TimeLeft(pace),
        console=console,
        expand=True,
        transient=True,
        disable=not has_progress_bar(quiet=quiet),
    ) as progress:
        task = progress.add_task("", total=None)

        def show(done: float, total: float, label: str) -> None:
            pace.note(done, total, now=time.monotonic())
            text = Text(printable(label))
            text.truncate(console.width - _BAR_WIDTH, overflow="ellipsis")
            progress.update(task, completed=done, total=total, description=escape(text.plain))

        yield show
