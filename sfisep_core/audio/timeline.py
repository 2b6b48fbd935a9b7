"""Time line of decoded samples: silence in place of lost samples, and a report of losses."""

from __future__ import annotations

# Time stamps that count samples. Others may deviate by less than the tolerance.
_EXACT_CONTAINERS = {"flac", "ogg"}
_TOLERANCE_SECONDS = 0.1
# Vorbis's long and short blocks and Opus's pages cause jitter of the time stamps.
_OGG_JITTER_FRAMES = 2048
# Streams of packets without time stamps. The length of a loss is known from its bytes if packets
# have equal size; data between packets may also be a tag or unrelated to the audio.
_UNTIMED_CONTAINERS = {"mp3", "aac", "ac3", "eac3", "dts", "loas"}
_PADDING_BYTES = 2
_LEAST_JUNK_BYTES = 4096
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")
# An untrusted file may contain any time stamp.
_MAX_SILENCE_SECONDS = 3600
_SHOWN_PLACES = 3


class Timeline:
    """Track the time of a recording while its packets are decoded or lost.

    Attributes:
        position: Number of samples so far, silence included.
        bytes_are_counted: Whether the file has the size in bytes that its header states: data that
            cannot be decoded then replaced packets.
    """

    def __init__(self, container: str, sample_rate: int) -> None:
        """Start at zero.

        Args:
            container: ffmpeg's name of the format.
            sample_rate: In Hz.
        """
        self.position = 0
        self.bytes_are_counted = False
        self._rate = sample_rate
        self._untimed = container in _UNTIMED_CONTAINERS
        self._ogg = container == "ogg"
        self._tolerance = 0 if container in _EXACT_CONTAINERS else _TOLERANCE_SECONDS * sample_rate
        self._clock: int | None = None
        self._longest = 0
        self._packet_bytes = (0, 0, 0, 0)  # smallest, largest, sum, number
        self._lost_bytes = 0
        self._only_tags = True
        self._places: list[tuple[int, int]] = []
        self._count = 0
        self._silence = 0

    def begin(self, start: int | None) -> None:
        """Set the time of the first sample.

        Args:
            start: In samples; None = unknown.
        """
        self._clock = start

    def lose(self, content: bytes) -> None:
        """Record a packet that could not be decoded.

        Args:
            content: Its bytes.
        """
        self._lost_bytes += len(content)
        self._only_tags &= content.startswith(_TAGS) or not content.strip(b"\0")

    def learn(self, size: int) -> None:
        """Record the size of a packet that was decoded."""
        smallest, largest, total, count = self._packet_bytes
        self._packet_bytes = (
            min(smallest or size, size),
            max(largest, size),
            total + size,
            count + 1,
        )

    def silence_before(self, start: int | None, frames: int, *, faulty: bool) -> int:
        """Compute the silence to insert before samples, and record a loss.

        Args:
            start: Their expected start in samples; None = unknown.
            frames: Their number.
            faulty: Whether the decoder marked them as faulty.

        Returns:
            Samples of silence, 0 or more.
        """
        gap = 0 if None in (start, self._clock) else max((start or 0) - (self._clock or 0), 0)
        self._longest = max(self._longest, frames)
        if self._lost_bytes:
            gap = self._estimate(frames, gap)
            self._note(gap, told=not self._only_tags)
        elif gap > 0 and gap >= max(
            0.9 * self._longest, self._tolerance, _OGG_JITTER_FRAMES if self._ogg else 0
        ):
            self._note(gap, told=True)
        else:
            gap = 0
            if faulty:
                self._note(0, told=True)
        self._clock = None if start is None else start + frames
        gap = self._limited(gap)
        self.position += gap + frames
        return gap

    def end(self) -> None:
        """Record what could not be decoded after the last samples."""
        # A stream of untimed packets may be followed by a tag, padding or half a packet.
        lost = self._lost_bytes > (_LEAST_JUNK_BYTES if self._untimed else 0)
        if lost and not self._only_tags:
            self._note(0, told=True)

    def describe(self) -> str:
        """Describe how much is lost and where; empty if nothing is."""
        if not self._count:
            return ""
        where = ", ".join(
            f"{frames / self._rate:.3f} s at {start / self._rate:.3f} s"
            if frames
            else f"a fault at {start / self._rate:.3f} s"
            for start, frames in self._places
        )
        if self._count > len(self._places):
            where += f" and {self._count - len(self._places)} more places"
        if not self._silence:
            return f"not all of it can be decoded: {where}"
        return f"{self._silence / self._rate:.3f} s are lost, silence stands for them: {where}"

    def _estimate(self, frames: int, gap: int) -> int:
        smallest, largest, total, count = self._packet_bytes
        if not (self._untimed and count):
            return gap
        packets = round(self._lost_bytes * count / total)
        if self.bytes_are_counted:
            return packets * frames
        # Packets of one size: bytes that amount to whole packets replaced them. Other bytes were
        # inserted between packets, and the time stamps show how much they damaged.
        alike = largest - smallest <= _PADDING_BYTES
        missing = abs(self._lost_bytes - packets * total / count)
        return packets * frames if alike and missing <= _PADDING_BYTES else gap

    def _note(self, frames: int, *, told: bool) -> None:
        self._lost_bytes = 0
        self._only_tags = True
        if told:
            self._count += 1
            if len(self._places) < _SHOWN_PLACES:  # the number of faults in a file is not bounded
                self._places.append((self.position, frames))

    def _limited(self, gap: int) -> int:
        gap = min(gap, _MAX_SILENCE_SECONDS * self._rate - self._silence)
        self._silence += gap
        return gap


def flac_start(packet: bytes, header: bytes) -> int | None:
    """Return the index of the first sample of a FLAC frame, from its header.

    Args:
        packet: The frame.
        header: STREAMINFO of its file.

    Returns:
        Index in samples; None if the packet does not start with a frame. Source: RFC 9639, section
        9.1.
    """
    if len(packet) < 12 or packet[0] != 0xFF or packet[1] & 0xFE != 0xF8:
        return None
    first = packet[4]
    # As in UTF-8, the number of leading ones in the first byte is the number of bytes.
    length = 8 - (first ^ 0xFF).bit_length()
    number = first & (0x7F >> length)
    for byte in packet[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    variable = packet[1] & 1
    return number if variable else number * int.from_bytes(header[2:4], "big")
