"""A recorder that cannot wait, and a listener that notes when samples come."""

import math
import threading
import time
from dataclasses import dataclass
from typing import IO

READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Recording:
    """What a recorder went through.

    Attributes:
        begun: Time of the first sample, seconds of a monotonic clock.
        longest_write: Seconds of the longest write.
        dropped: Frames that the recorder lost, because a write took longer than its buffer holds.
    """

    begun: float
    longest_write: float
    dropped: int


def record(
    data: bytes,
    stream: IO[bytes],
    *,
    frame_bytes: int,
    rate: int,
    period: float = 0.02,
    buffer: float = 0.5,
) -> Recording:
    """Write samples at the pace of a recorder, and close the stream.

    Args:
        data: Whole frames.
        stream: A pipe, not buffered.
        frame_bytes: Bytes of a frame.
        rate: Frames a second.
        period: Seconds between two writes.
        buffer: Seconds of samples that the recorder keeps while a write waits.
    """
    block = round(period * rate) * frame_bytes
    begun, longest, dropped, lost_blocks = time.monotonic(), 0.0, 0, 0
    for number, start in enumerate(range(0, len(data), block)):
        part = data[start : start + block]
        if lost_blocks:
            lost_blocks -= 1
            dropped += len(part) // frame_bytes
            continue
        # A recorder has a block when the last sample of it has been heard.
        time.sleep(max(0.0, begun + (number + 1) * period - time.monotonic()))
        before = time.monotonic()
        stream.write(part)
        waited = time.monotonic() - before
        longest = max(longest, waited)
        lost_blocks = max(0, math.ceil((waited - buffer) / period))
    stream.close()
    return Recording(begun, longest, dropped)


class Listener:
    """Reads a stream to its end in a thread of its own.

    Attributes:
        arrivals: Time and number of bytes of each read, seconds of a monotonic clock.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.arrivals: list[tuple[float, int]] = []
        self._parts: list[bytes] = []
        self._stream = stream
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while part := self._stream.read(READ_BYTES):
            self.arrivals.append((time.monotonic(), len(part)))
            self._parts.append(part)

    def finish(self) -> bytes:
        """Wait for the end of the stream, and return all of it."""
        self._thread.join()
        return b"".join(self._parts)

    def delays(self, begun: float, *, bytes_per_second: int) -> list[float]:
        """Return the delay of the first byte of each read against its time in the input."""
        delays, before = [], 0
        for at, count in self.arrivals:
            delays.append(at - begun - before / bytes_per_second)
            before += count
        return delays
