"""Streams of bytes that are read and written while another thread computes."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

_READ_BYTES = 1 << 16  # what a pipe holds on Linux
# Another program may have made a pipe that it shares with this one non-blocking.
_RETRY_SECONDS = 0.005


class ByteReader(Protocol):
    """A stream to read from, such as an unbuffered file."""

    def read(self, size: int, /) -> bytes | None:
        """Return the bytes that are there, at least one and at most `size`.

        Returns:
            b"" at the end; None if a non-blocking stream has no bytes yet.
        """


class ByteWriter(Protocol):
    """A stream to write to, such as an unbuffered file."""

    def write(self, data: memoryview, /) -> int | None:
        """Write bytes, and return how many were taken; None if a non-blocking stream is full."""


class _ByteQueue:
    """Bytes on their way from one thread to another, which `work` of a thread of its own moves."""

    def __init__(self, capacity: int, work: Callable[[], None]) -> None:
        self._capacity, self._work = capacity, work
        self._changed = threading.Condition()
        self._waiting = bytearray()
        self._ended = False  # nothing is added any more
        self._done = False  # the thread has ended
        self._error: Exception | None = None
        # A daemon: a read that never returns must not keep the process from ending.
        threading.Thread(target=self._run, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the thread after the call in which it is."""
        with self._changed:
            self._ended = True
            self._waiting.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        failed: Exception | None = RuntimeError("the thread of a stream has died")
        try:
            self._work()
            failed = None
        except OSError as error:
            failed = error
        finally:
            with self._changed:
                self._error, self._ended, self._done = failed, True, True
                self._changed.notify_all()

    def _add(self, data: bytes) -> float:
        """Add bytes as soon as there is room, and return the seconds for which there was none."""
        with self._changed:
            begun, full = time.monotonic(), len(self._waiting) >= self._capacity
            self._changed.wait_for(lambda: len(self._waiting) < self._capacity or self._ended)
            if not self._ended:
                self._waiting += data
                self._changed.notify_all()
            return time.monotonic() - begun if full else 0.0

    def _take(self) -> bytes:
        """Return all bytes that wait, at least one; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            data = bytes(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            return data


class ReadAhead(_ByteQueue):
    """Reads a stream in a thread of its own.

    Args:
        reader: The stream.
        capacity: Bytes that may wait; the stream is held up while there are more.

    Attributes:
        most_waiting: Largest number of bytes that have waited.
        held_seconds: Time for which the stream was held up.
    """

    def __init__(self, reader: ByteReader, *, capacity: int) -> None:
        self._reader = reader
        self.most_waiting = 0
        self.held_seconds = 0.0
        super().__init__(capacity, self._read)

    def _read(self) -> None:
        while not self._ended and (data := self._reader.read(_READ_BYTES)) != b"":
            if data is None:
                time.sleep(_RETRY_SECONDS)
            else:
                self.held_seconds += self._add(data)

    def take(self) -> bytes:
        """Return all bytes that have come in, at least one; none at the end of the stream.

        Raises:
            OSError: What the stream raised, after the bytes that came before.
        """
        data = self._take()
        self.most_waiting = max(self.most_waiting, len(data))
        if not data and self._error is not None:
            raise self._error
        return data


class WriteBehind(_ByteQueue):
    """Writes a stream in a thread of its own.

    Args:
        writer: The stream.
        capacity: Bytes that may wait before `write` waits.
    """

    def __init__(self, writer: ByteWriter, *, capacity: int) -> None:
        self._writer = writer
        super().__init__(capacity, self._write)

    def _write(self) -> None:
        while data := self._take():
            rest = memoryview(data)
            while rest:
                taken = self._writer.write(rest)
                if taken is None:
                    time.sleep(_RETRY_SECONDS)
                else:
                    rest = rest[taken:]

    def write(self, data: bytes) -> None:
        """Write bytes, at once or later.

        Raises:
            OSError: What the stream raised for these or for earlier bytes.
        """
        self._add(data)
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait until all is written.

        Raises:
            OSError: What the stream raised.
        """
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._done)
        if self._error is not None:
            raise self._error
