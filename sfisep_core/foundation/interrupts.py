"""Ctrl-C, SIGTERM and SIGHUP: stop where nothing is lost, and keep them from other processes."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

from sfisep_core.errors import SfisepError

# Windows has no SIGHUP.
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class StoppedBySignal(SfisepError):
    """A signal stopped a run; what it had done is saved.

    Attributes:
        signal_number: SIGINT (Ctrl-C), SIGTERM or SIGHUP (its terminal is closed).
    """

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class Interrupts:
    """The signals that have come in.

    Args:
        twice_stops: Whether a second Ctrl-C stops at once. Not where a launcher passes on a Ctrl-C
            that the process has got from the terminal already.

    Attributes:
        received: Number of the first signal, 0 for none.
    """

    def __init__(self, *, twice_stops: bool) -> None:
        self.received = 0
        self._twice_stops = twice_stops
        self._where = ""

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal in; stop at once within `immediate`, or on the second Ctrl-C."""
        again = self._twice_stops and self.received != 0 and number == signal.SIGINT
        self.received = self.received or number
        where, self._where = self._where, ""  # what saves the run is not to be stopped
        if where:
            raise StoppedBySignal(where, signal_number=self.received)
        if again:
            raise KeyboardInterrupt

    @contextmanager
    def immediate(self, message: str) -> Iterator[None]:
        """Let a signal end the block at once: what came before it is safe.

        Args:
            message: Of the error that a signal raises.

        Raises:
            StoppedBySignal: A signal came.
        """
        self._where = message
        try:
            if self.received:
                raise StoppedBySignal(message, signal_number=self.received)
            yield
        finally:
            self._where = ""


@contextmanager
def catch_interrupts(*, twice_stops: bool = True) -> Iterator[Interrupts]:
    """Collect SIGINT, SIGTERM and SIGHUP while the block runs, instead of dying of them.

    Outside the main thread, where Python gives no signals, nothing is collected.

    Args:
        twice_stops: Whether a second Ctrl-C stops at once.

    Yields:
        What has come in.
    """
    interrupts = Interrupts(twice_stops=twice_stops)
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {
        number: signal.signal(number, interrupts.handle)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
    }
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """Start processes in this block that never get Ctrl-C, which a terminal sends to all.

    This process decides then what becomes of them. What is sent to it meanwhile comes afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started with the first process, it would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP wait for the end of the block, which is short.

    For calls into a library that sets handlers of its own, or changes what a handler raises. The
    handlers from before hold again afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        for number, handler in handlers.items():
            if handler is not None:  # one that is not Python's cannot be put back
                signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)
