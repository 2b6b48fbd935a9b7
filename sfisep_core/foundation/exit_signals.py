"""Signals that end the process as an exception does, so that temporary files are removed."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# Windows has no SIGHUP.
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
# Long enough to be out of the finalizer, which is a few lines of Python.
_AGAIN_SECONDS = 0.01


@contextmanager
def cleaned_up_after_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into `SystemExit(128 + number)`, which no finalizer can swallow.

    Python drops what is raised while a `__del__` runs, and audio files have one: without a second
    try, such a signal, or Ctrl-C, would be lost and the work go on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _leave) for number in _SIGNALS}
    tell = sys.unraisablehook
    sys.unraisablehook = lambda lost: _send_again(lost.exc_value) or tell(lost)
    try:
        yield
    finally:
        sys.unraisablehook = tell
        for number, handler in before.items():
            signal.signal(number, handler)


class _Left(SystemExit):
    """The end that a signal asks for."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Left(number)


def _send_again(lost: BaseException | None) -> bool:
    """Send the signal that raised this, a moment later; False if no signal did."""
    if isinstance(lost, _Left):
        number = lost.number
    elif isinstance(lost, KeyboardInterrupt):
        number = signal.SIGINT
    else:
        return False
    again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
    again.daemon = True  # a process that ends by itself does not wait for it
    again.start()
    return True
