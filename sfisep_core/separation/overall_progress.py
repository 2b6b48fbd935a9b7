"""Progress of several files together, weighted by their lengths."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from sfisep_core.separation.inputs import STANDARD_STREAM
from sfisep_core.separation.plan import expected_seconds

ShowProgress = Callable[[float, float, str], None]
"""Called with (done, total, label of the current work)."""


def overall_progress(paths: Sequence[Path], show: ShowProgress | None) -> "OverallProgress":
    """Build the progress of work on files.

    Args:
        paths: The files.
        show: Shows the progress; None shows nothing and reads no file.
    """
    if show is None:
        return OverallProgress(dict.fromkeys(paths), lambda *_: None)
    return OverallProgress(
        {path: None if path == STANDARD_STREAM else expected_seconds(path) for path in paths}, show
    )


class OverallProgress:
    """Adds up the progress of files.

    Args:
        lengths: Seconds of each file; None if unknown, which counts as the mean of the others.
        show: Shows (done, total, label).
    """

    def __init__(self, lengths: dict[Path, float | None], show: ShowProgress) -> None:
        known = [length for length in lengths.values() if length is not None]
        mean = fmean(known) if known else 1.0
        self._lengths = {
            path: mean if length is None else length for path, length in lengths.items()
        }
        self._total = sum(self._lengths.values())
        self._show_bar = show
        self._finished: set[Path] = set()
        self._current: Path | None = None

    def begin(self, path: Path) -> None:
        """Start a file."""
        self._current = path
        self._show(0.0)

    def begin_together(self) -> None:
        """Start all remaining files."""
        self._current = None
        self._show(0.0)

    def report(self, done: float, total: float) -> None:
        """Report how much of the current file is done."""
        self._show(done / total if total else 1.0)

    def finish(self, path: Path) -> None:
        """Report that a file is finished or has failed."""
        self._finished.add(path)
        self._current = None
        self._show(0.0)

    def _show(self, share: float) -> None:
        done = sum(self._lengths[path] for path in self._finished)
        count, of = len(self._finished), len(self._lengths)
        if self._current is not None:
            done += share * self._lengths[self._current]
            label = self._current.name
            if of > 1:
                label = f"{count + 1} of {of}: {label}"
        else:
            label = f"{count} of {of} finished"
        self._show_bar(min(done, self._total), self._total, label)
