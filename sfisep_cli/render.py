"""What the commands show in the terminal: progress, tables and errors."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

console = Console(stderr=True, highlight=False, emoji=False)
"""For what accompanies the work: standard output is kept for what a user may pipe on."""

output = Console(highlight=False, emoji=False)
"""For what a user asked to see."""

_LONGEST_NAME = 30  # of a first column that is not broken over lines


def show_error(message: str) -> None:
    """Show one error message on standard error, on one line however long it is."""
    console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def show_message(message: str) -> None:
    """Show a message on standard error; above the progress bar while there is one."""
    console.print(Text(message), soft_wrap=True)


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
        table.add_column(column, overflow="fold", no_wrap=short)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    target.print(table)


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[float, float, str], None]]:
    """Show a progress bar while the block runs.

    Args:
        quiet: True for no bar. There is none either where standard error is no terminal.

    Yields:
        A function of (done, total, label), to be called whenever something is done; done and total
        are in one unit of the caller's choice. A new total starts the bar anew.
    """
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_interactive,
    ) as progress:
        task = progress.add_task("", total=None)

        def show(done: float, total: float, label: str) -> None:
            progress.update(task, completed=done, total=total, description=escape(label))

        yield show
