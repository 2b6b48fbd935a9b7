"""Decode files that libsndfile cannot read, or not to the end, with ffmpeg's libraries (PyAV).

Most files do not need it, so it is imported only for those that do.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Self

import av
import numpy as np
from av import AudioFrame, AudioLayout, Packet
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from sfisep_core.audio.av_frames import FrameConverter
from sfisep_core.audio.av_source import choose_track, open_container, undecodable
from sfisep_core.audio.container_sizes import SampleData
from sfisep_core.audio.endings import is_cut, mp3_bytes_are_counted, tiny_mp3_frames
from sfisep_core.audio.source_files import unreadable
from sfisep_core.audio.timeline import Timeline, flac_start

# Codecs with checksums: a packet that fails is dropped, because wrong samples can be very loud.
_CHECKED_CODECS = {"flac", "tta", "wavpack", "tak"}
# Containers that store an exact length rather than one estimated from a bit rate.
_COUNTED_CONTAINERS = {"mov", "matroska", "avi", "flac", "wv", "tta", "ape", "mpc8", "tak"}
# Containers that are read up to the announced number of samples.
_SIZED_CONTAINERS = {"wav", "w64", "aiff", "caf", "au"}
# Containers whose length is rounded, or is that of another track.
_ROUNDED_CONTAINERS = {"mov", "matroska", "avi"}
_TOLERANCE_SECONDS = 0.25
_MAX_READ_FAULTS = 16
_BLOCK_FRAMES = 65536


class AvDecoder:
    """Decode the audio track of an untrusted file, sequentially and once.

    Memory does not depend on the length. No other file and no network connection is opened. After a
    fault decoding continues; where the file states how much is lost, silence of that length
    replaces it.

    Attributes:
        sample_rate: In Hz; frames that have another rate later in the file are resampled.
        channels: 1 or more; frames that have another number later in the file are remixed.
        channel_mask: Loudspeaker positions as a WAV channel mask; 0 = unspecified.
        container: mp3, ogg, m4a, webm, asf, ...
        encoding: mp3, opus, aac, alac, ...
        position: Number of samples read so far.
        frame_bytes: Always 0, unknown.
        remarks: Notes for the user that are not faults.
        reads_all: Whether data after the announced samples are read as well.
    """

    def __init__(self, path: Path, raw: io.FileIO, sizes: SampleData | None = None) -> None:
        """Open a file and decode its beginning.

        Args:
            path: The file.
            raw: The same file, open; it stays open, and its position changes.
            sizes: Sizes from its chunk headers.

        Raises:
            AudioFileError: If nothing can be decoded.
        """
        self._path, self._raw, self._sizes = path, raw, sizes
        self._blocks: Generator[NDArray[np.float32], None, None]
        self._rest: NDArray[np.float32] | None
        self._file = open_container(path, raw, sizes)
        try:
            self._start()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """Return the decoder itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the resources opened here."""
        self._blocks.close()
        self._file.close()

    def read(self, frames: int) -> NDArray[np.float32]:
        """Read the next samples.

        Args:
            frames: Most samples per channel to read, 1 or more.

        Returns:
            The samples, shape (channels, frames), full scale at 1.0; fewer only at the end.

        Raises:
            OSError: The disk fails.
        """
        taken = [np.zeros((self.channels, 0), dtype=np.float32)]
        wanted = frames
        while wanted > 0:
            block = next(self._blocks, None) if self._rest is None else self._rest
            if block is None:
                break
            taken.append(block[:, :wanted])
            self._rest = block[:, wanted:] if block.shape[1] > wanted else None
            wanted -= taken[-1].shape[1]
        self.position += frames - wanted
        return np.concatenate(taken, axis=1)

    def skip(self, frames: int) -> None:
        """Skip samples, at most to the end of the file."""
        while frames > 0 and (count := self.read(min(frames, _BLOCK_FRAMES)).shape[1]) > 0:
            frames -= count

    def count(self) -> int:
        """Decode the whole file again to count its samples.

        Returns:
            Number of samples per channel that can be decoded from its start.
        """
        with AvDecoder(self._path, self._raw, self._sizes) as other:
            while other.read(_BLOCK_FRAMES).size > 0:
                pass
            return other.position

    def complaint(self) -> str:
        """Describe faults of the file after it was read to its end; empty if there are none."""
        parts = [self._timeline.describe()]
        announced = round(self._announced_seconds() * self.sample_rate)
        rounded = self._format in _ROUNDED_CONTAINERS
        if announced - self.position > (_TOLERANCE_SECONDS * self.sample_rate if rounded else 0):
            parts.append(
                f"its header announces {announced} frames, {self.position} could be decoded "
                f"({self.position / self.sample_rate:.3f} s)"
            )
        elif is_cut(self._raw, self._format):
            parts.append(f"its end is missing, behind {self.position / self.sample_rate:.3f} s")
        return "; ".join(part for part in parts if part)

    def _start(self) -> None:
        self._format, *others = self._file.format.name.split(",")
        self.remarks: list[str] = []
        self.reads_all = self._format not in _SIZED_CONTAINERS
        stream, remark = choose_track(self._file)
        if stream is None:
            kinds = ", ".join(sorted({other.type for other in self._file.streams})) or "none"
            actual = f"a file of the format {self._format} with these tracks: {kinds}"
            raise unreadable(
                self._path, "an audio track that can be decoded", actual, "use a file with sound"
            )
        if remark:
            self.remarks.append(remark)
        self._stream: AudioStream = stream
        self._context = stream.codec_context
        self._context.thread_count = 1  # faults then belong to the current packet
        suffix = self._path.suffix.lower().removeprefix(".")
        self.container = suffix if suffix in others else self._format
        self.encoding = self._context.codec.canonical_name
        if self.encoding in _CHECKED_CODECS:
            self._context.options = {"err_detect": "crccheck+explode"}
        self.position = 0
        self.frame_bytes = 0
        self._read_faults = 0
        self._set_format(self._context.sample_rate, self._context.layout)
        self._begun = self._changed = False
        limit = self._read_all_samples()
        if self._format == "mp3":
            self._timeline.bytes_are_counted = mp3_bytes_are_counted(self._raw)
            limit = tiny_mp3_frames(self._raw)
        self._blocks = self._decode() if limit is None else _first(self._decode(), limit)
        self._rest = next(self._blocks, None)
        if not self.sample_rate or not self.channels:
            raise undecodable(self._path, self._raw, "no rate or number of channels")
        if self._rest is None and (self._timeline.describe() or self._read_faults):
            raise undecodable(self._path, self._raw, "no packet that is whole")

    def _read_all_samples(self) -> int | None:
        """Return the length of a WAV whose header does not state it; None for other files."""
        sizes = self._sizes
        if sizes is None or not sizes.block_bytes or not (length := sizes.real_bytes()):
            return None
        announced = (sizes.announced or 0) // sizes.block_bytes
        frames = length // sizes.block_bytes
        self.reads_all = True
        self.remarks.append(
            f"announces {announced} frames and goes on with samples: {frames} frames are read"
        )
        return frames

    def _set_format(self, sample_rate: int, layout: AudioLayout) -> None:
        self._converter = FrameConverter(sample_rate, layout)
        self._timeline = Timeline(self._format, sample_rate)
        self.sample_rate, self.channels = sample_rate, self._converter.channels
        self.channel_mask = self._converter.channel_mask

    def _decode(self) -> Generator[NDArray[np.float32], None, None]:
        for packet in self._packets():
            try:
                frames = self._context.decode(packet)
            except av.error.FFmpegError:
                self._timeline.lose(bytes(packet))
                continue
            if frames:
                self._timeline.learn(packet.size)
            start = self._start_of(packet)
            for frame in frames:
                yield from self._place(frame, start)
                start = None if start is None else start + frame.samples
        yield from self._converter.flush()
        self._timeline.end()

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        while self._read_faults < _MAX_READ_FAULTS:
            try:
                yield from self._file.demux(self._stream)
            except av.error.FFmpegError:
                self._read_faults += 1
            else:
                return

    def _start_of(self, packet: Packet[AudioStream]) -> int | None:
        """Return the first sample of a packet if the packet itself, not a time stamp, states it."""
        if self._format != "flac" or not packet.size:
            return None
        return flac_start(bytes(packet), self._context.extradata or b"")

    def _place(self, frame: AudioFrame, start: int | None) -> Iterator[NDArray[np.float32]]:
        """Yield silence for missing samples, then the samples of a frame."""
        if not self._begun:
            self._begun = True
            if not self._converter.fits(frame):
                self._set_format(frame.sample_rate, frame.layout)
            self._timeline.begin(self._first_start())
        # ffmpeg does not provide a time base for every format.
        if self._format != "flac" and frame.pts is not None and frame.time_base is not None:
            start = round(frame.pts * frame.time_base * self.sample_rate)
        frames = round(frame.samples * self.sample_rate / frame.sample_rate)
        missing = self._timeline.silence_before(start, frames, faulty=frame.is_corrupt)
        if missing:
            yield from self._converter.flush()
            yield from self._silence(missing)
        if not self._converter.fits(frame):
            self._remark_change(frame)
        yield from self._converter.convert(frame)

    def _first_start(self) -> int | None:
        """Return the expected start time if a late start is to be filled with silence."""
        start, time_base = self._stream.start_time, self._stream.time_base
        if self._format not in ("flac", "ogg") or start is None or time_base is None:
            return None
        return round(start * time_base * self.sample_rate)

    def _remark_change(self, frame: AudioFrame) -> None:
        if self._changed:
            return
        self._changed = True
        seconds = (self._timeline.position - frame.samples) / self.sample_rate
        self.remarks.append(
            f"changes after {max(seconds, 0):.3f} s from {self.sample_rate} Hz and {self.channels} "
            f"channels to {frame.sample_rate} Hz and {frame.layout.nb_channels} channels: all of "
            "it is read as it begins"
        )

    def _silence(self, frames: int) -> Iterator[NDArray[np.float32]]:
        while frames > 0:
            count = min(frames, _BLOCK_FRAMES)
            yield np.zeros((self.channels, count), dtype=np.float32)
            frames -= count

    def _announced_seconds(self) -> float:
        stream = self._stream
        if self._format not in _COUNTED_CONTAINERS:
            return 0.0
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        if self._file.duration is None or len(self._file.streams) > 1:
            return 0.0  # duration of a video's longest track
        return float(self._file.duration / av.time_base)


def _first(
    blocks: Iterator[NDArray[np.float32]], limit: int
) -> Generator[NDArray[np.float32], None, None]:
    """Yield at most `limit` samples of blocks."""
    for block in blocks:
        if limit > 0:
            yield block[:, :limit]
        limit -= block.shape[1]
