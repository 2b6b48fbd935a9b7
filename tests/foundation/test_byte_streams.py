import errno
import io
import os
import threading
import time

import pytest

from sfisep_core.foundation.byte_streams import ReadAhead, WriteBehind


class Broken(io.RawIOBase):
    """Takes or gives three bytes, then fails."""

    def __init__(self, *, reason: OSError) -> None:
        self.reason, self.calls = reason, 0

    def read(self, size: int = -1, /) -> bytes:
        del size
        self.calls += 1
        if self.calls > 1:
            raise self.reason
        return b"abc"

    def write(self, data: object, /) -> int:
        del data
        self.calls += 1
        if self.calls > 1:
            raise self.reason
        return 3


class Halting(io.RawIOBase):
    """A non-blocking stream that has, or takes, one byte in every other call."""

    def __init__(self, content: bytes = b"") -> None:
        self.content, self.calls = bytearray(content), 0

    def read(self, size: int = -1, /) -> bytes | None:
        del size
        self.calls += 1
        if self.calls % 2:
            return None
        part = bytes(self.content[:1])
        del self.content[:1]
        return part

    def write(self, data: memoryview, /) -> int | None:  # type: ignore[override]
        self.calls += 1
        if self.calls % 2:
            return None
        self.content += data[:1]
        return 1


def all_of(source: ReadAhead) -> bytes:
    parts = []
    while part := source.take():
        parts.append(part)
    return b"".join(parts)


def test_all_bytes_pass_in_order() -> None:
    content = os.urandom(1_000_000)
    with ReadAhead(io.BytesIO(content), capacity=100_000) as source:
        assert all_of(source) == content
        assert 0 < source.most_waiting < 100_000 + 2**16
    written = io.BytesIO()
    with WriteBehind(written, capacity=1000) as sink:
        for start in range(0, len(content), 5000):
            sink.write(content[start : start + 5000])
        sink.finish()
        assert written.getvalue() == content


def test_a_writer_is_not_held_up_while_there_is_room() -> None:
    read, write = os.pipe()
    with (
        os.fdopen(read, "rb", buffering=0) as reader,
        os.fdopen(write, "wb", buffering=0) as writer,
        ReadAhead(reader, capacity=2_000_000) as source,
    ):
        for _ in range(20):
            writer.write(bytes(100_000))  # more than a pipe holds, and nothing is taken
        writer.close()
        assert len(all_of(source)) == 2_000_000
        assert source.held_seconds == 0


def test_a_writer_is_held_up_while_there_is_none() -> None:
    read, write = os.pipe()
    with (
        os.fdopen(read, "rb", buffering=0) as reader,
        os.fdopen(write, "wb", buffering=0) as writer,
        ReadAhead(reader, capacity=1000) as source,
    ):
        # A read takes what a pipe holds: two are taken in or wait for room, one is in the pipe.
        feeder = threading.Thread(target=lambda: (writer.write(bytes(400_000)), writer.close()))
        feeder.start()
        time.sleep(0.1)
        assert feeder.is_alive()
        assert len(all_of(source)) == 400_000
        feeder.join()
        assert source.held_seconds > 0
        assert source.most_waiting < 1000 + 2**16


def test_streams_that_do_not_block() -> None:
    with ReadAhead(Halting(b"four"), capacity=100) as source:
        assert all_of(source) == b"four"
    halting = Halting()
    with WriteBehind(halting, capacity=100) as sink:
        sink.write(b"four")
        sink.finish()
    assert halting.content == b"four"


def test_errors_come_out_where_the_stream_is_used() -> None:
    reason = OSError(errno.EIO, "broken")
    with ReadAhead(Broken(reason=reason), capacity=100) as source:
        assert source.take() == b"abc"
        with pytest.raises(OSError, match="broken"):
            source.take()
    with WriteBehind(Broken(reason=reason), capacity=2) as sink:
        sink.write(b"abcdef")
        with pytest.raises(OSError, match="broken") as caught:
            sink.finish()
        assert caught.value is reason
        with pytest.raises(OSError, match="broken"):
            sink.write(b"g")
    with WriteBehind(Broken(reason=reason), capacity=2) as sink:
        sink.write(b"abc")
        sink.finish()


def test_a_thread_that_dies_is_no_end_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    closed = io.BytesIO(b"abc")
    closed.close()
    with (
        ReadAhead(closed, capacity=100) as source,
        pytest.raises(RuntimeError, match="thread of a stream has died"),
    ):
        source.take()
    with WriteBehind(closed, capacity=100) as sink:
        sink.write(b"abc")
        with pytest.raises(RuntimeError, match="thread of a stream has died"):
            sink.finish()
    for _ in range(1000):  # a thread reports after the other has gone on
        if len(reported) < 2:
            time.sleep(0.01)
    assert [report.exc_type for report in reported] == [ValueError, ValueError]
