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
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
# Long enough to be out of the finalizer, which is a few lines of Python.
_AGAIN_SECONDS = 0.01


# The signals that have asked this process to end.
_received: list[int] = []


@contextmanager
def cleaned_up_after_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into `SystemExit(128 + number)`, which nothing can swallow.

    Python drops what is raised while a `__del__` runs, and audio files have one: without a second
    try, such a signal, or Ctrl-C, would be lost and the work go on. Compiled libraries make errors
    of their own of what is raised in Python code that they call: whatever comes out of the block
    after a signal, the signal counts. Signals that are ignored, as by `nohup`, stay so.

    Raises:
        SystemExit: SIGTERM or SIGHUP came.
        KeyboardInterrupt: Ctrl-C came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    before = {
        number: signal.signal(number, leave)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    tell = sys.unraisablehook
    sys.unraisablehook = lambda lost: _send_again(lost.exc_value) or tell(lost)
    try:
        yield
        raise_received()
    except (KeyboardInterrupt, _Left):
        raise
    except BaseException:
        raise_received()
        raise
    finally:
        sys.unraisablehook = tell
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


def raise_received() -> None:
    """Raise again what a signal raised, where a library has made an error of its own of it.

    To be called first wherever errors of any kind are caught.

    Raises:
        SystemExit: SIGTERM or SIGHUP came.
        KeyboardInterrupt: Ctrl-C came.
    """
    if _received:
        raise _asked_for(_received[0])


def leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Handle a signal: end the process as an exception does.

    Raises:
        SystemExit: For SIGTERM and SIGHUP.
        KeyboardInterrupt: For Ctrl-C.
    """
    _received.append(number)
    raise _asked_for(number)


class _Left(SystemExit):
    """The end that a signal asks for."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def _asked_for(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else _Left(number)


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
