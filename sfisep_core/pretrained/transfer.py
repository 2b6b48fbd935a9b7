"""What downloads from the hub and from plain addresses share: progress, retries, and words."""

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sfisep_core.errors import CheckpointError

Progress = Callable[[float, float, str], None]
"""Called with bytes done, bytes in all, and a label."""

TIMEOUT = 15.0
"""Seconds without a byte after which a server counts as stalled."""

ATTEMPTS = 4

_logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class LoggedProgress:
    """Log how far a download is, for callers that show no progress of their own."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, done: float, total: float, label: str) -> None:
        """Log the first call, and then every fifth of the whole."""
        fifths = int(5 * done / total) if total else 0
        if fifths >= self._next:
            _logger.info("%s: %.1f of %.1f MB", label, done / 1e6, total / 1e6)
            self._next = fifths + 1


class ByteCounter:
    """Pass on what a library reports to its progress bar: the interface of one, as far as used."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label
        self.total = 0
        self.done = 0

    def update(self, number: int) -> None:
        """Count bytes; less than 0 where a download starts anew."""
        self.done += number
        self._progress(self.done, max(self.total, self.done), self._label)

    def reset(self) -> None:
        """Start anew."""
        self.done = 0

    def close(self) -> None:
        """End: there is nothing to close."""


def persist(action: Callable[[], _Result], *, lasting: Callable[[Exception], bool]) -> _Result:
    """Try again, after 1, 2 and 4 s, what fails for a moment.

    Args:
        action: What to do.
        lasting: Whether trying again is of no use after this error.

    Raises:
        Exception: What `action` raised last.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except CheckpointError:
            raise
        except Exception as error:
            if lasting(error):
                raise
            _logger.info("download failed (%s): trying again", type(error).__name__)
            time.sleep(2.0 ** (attempt - 1))
    return action()


def status_of(error: BaseException) -> int | None:
    """Give the HTTP status that an error of the libraries stands for; None for other errors."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def is_of_disk(error: BaseException) -> bool:
    """Tell whether an error is that of a file, and not of a connection."""
    return isinstance(error, OSError) and (
        error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT)
    )


def is_status_lasting(status: int) -> bool:
    """Tell whether an HTTP status will be the same in a few seconds."""
    return status < 500 and status not in (408, 429)


def describe_status(status: int, address: str) -> str:
    """Say in words what an HTTP error means."""
    if status in (401, 403):
        meaning = "it denies access, or a firewall or proxy does in its place"
    elif status == 404:
        meaning = "nothing is there, or no longer"
    elif status == 429:
        meaning = "it is asked too often"
    elif status >= 500:
        meaning = "it is in trouble"
    else:
        meaning = "it refuses the request"
    later = "" if is_status_lasting(status) else "; try again later"
    return f"{address} answers with status {status}: {meaning}{later}"


def describe_connection(error: BaseException, address: str) -> str:
    """Say in words why there was no answer, or half of one.

    The names of errors are read, not their types: the libraries change what they use beneath.
    """
    detail = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    if any("Timeout" in kind.__name__ for kind in type(error).__mro__) or "timed out" in detail:
        return f"{address} stalls: nothing came for {TIMEOUT:g} s"
    if is_of_disk(error):
        return f"what comes from {address} cannot be written: {detail}"
    return (
        f"no connection to {address}, or it was cut ({detail}): this machine seems to be offline, "
        "or a firewall or proxy is in the way"
    )
