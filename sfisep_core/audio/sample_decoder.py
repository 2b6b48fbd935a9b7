"""Read PCM samples, FLAC and complete Vorbis files, with soundfile."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from sfisep_core.audio.container_sizes import SampleData
from sfisep_core.audio.endings import flac_behind, is_whole_vorbis
from sfisep_core.audio.flac_masks import read_flac_mask
from sfisep_core.audio.formats import OGG_ORDER
from sfisep_core.audio.sequential_file import StoppedError, open_sequential
from sfisep_core.audio.source_files import FileView

_CONTAINERS = {"WAVEX": "wav", "RF64": "wav"}
_LINEAR_ENCODINGS = {
    "PCM_U8": "uint8",
    "PCM_S8": "int8",
    "PCM_16": "int16",
    "PCM_24": "int24",
    "PCM_32": "int32",
    "FLOAT": "float32",
    "DOUBLE": "float64",
}
_SAMPLE_BYTES = {
    "PCM_U8": 1,
    "PCM_S8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
    "ULAW": 1,
    "ALAW": 1,
}
# libsndfile's length if the header does not state one (FLAC written to a pipe).
_UNKNOWN_FRAMES = 2**63 - 1
# libsndfile may discard what it decoded in a call that fails: short calls lose little.
_READ_FRAMES = 1024
_SKIP_FRAMES = 65536
_MPEG_TAGS = (0x50, 0x55)
# Ogg, MP3, files that start with a tag, and VOC are left to ffmpeg: it counts their lengths,
# continues after faults, decodes Opus files whose pages overlap in time, where libsndfile stops,
# and reads all blocks of a VOC. Only libsndfile keeps the exact length of complete Vorbis files.
_HEADS = (b"OggS", b"ID3", b"Creative Voice File")


class SampleDecoder:
    """Read PCM samples, FLAC and complete Vorbis files.

    Attributes:
        sample_rate: In Hz.
        channels: 1 or more.
        channel_mask: Loudspeaker positions as a WAV channel mask; 0 = unspecified.
        container: wav, flac, aiff, ...
        encoding: int16, int24, float32, ...
        position: Number of samples read or skipped so far.
        frame_bytes: Bytes of one sample in all channels; 0 = not a whole number.
        remarks: Notes for the user that are not faults.
        sizes: Sizes from the chunk headers of all recordings that are read, added up.
        reads_all: Whether data after the announced samples are read as well.
    """

    def __init__(self, raw: io.FileIO, sizes: SampleData | None) -> None:
        """Open a file.

        Args:
            raw: The file, open; it stays open, and its position changes.
            sizes: Sizes from its chunk headers.

        Raises:
            StoppedError: libsndfile is not suited for this file.
        """
        raw.seek(0)
        head = raw.read(20)
        vorbis = head.startswith(b"OggS") and is_whole_vorbis(raw)
        mpeg = head[:1] == b"\xff" and head[1] & 0xE0 == 0xE0
        foreign = mpeg or (sizes and (sizes.format_tag in _MPEG_TAGS or sizes.real_bytes()))
        if foreign or (head.startswith(_HEADS) and not vorbis):
            raise StoppedError
        self._raw, self.sizes = raw, sizes
        flac_mask = read_flac_mask(raw)
        # libsndfile may reject a file that contains another one, or read only its last data chunk.
        stop = sizes.end_of_first() if sizes else None
        self._file = open_sequential(FileView(raw, stop=stop) if stop is not None else raw)
        self.position = 0
        self.remarks: list[str] = []
        self.reads_all = False
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        name, kind = self._file.format, self._file.subtype
        self.container: str = _CONTAINERS.get(name, name.lower())
        self.encoding = _encoding(kind)
        self.channel_mask = sizes.channel_mask if sizes else 0
        if self.container == "flac":
            self.channel_mask = flac_mask
        self.frame_bytes: int = _SAMPLE_BYTES.get(kind, 0) * self.channels
        self._plain = self.frame_bytes > 0 and self.container != "flac"
        self._order = OGG_ORDER.get(self.channels) if self.container == "ogg" else None
        self._frames: int = self._file.frames
        if sizes is not None and sizes.announced is not None and self._plain:
            # libsndfile treats everything that follows in a W64 as samples.
            self._frames = min(self._frames, sizes.announced // self.frame_bytes)
        self._first_frame, self._end_frame = 0, self._frames  # of the current recording
        self._following: list[_Part] = []
        if sizes is not None and stop is not None and self._plain:
            self._add_chunks(sizes)
            self._join(sizes)

    def __enter__(self) -> Self:
        """Return the decoder itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the resources opened here."""
        self._file.close()

    def read(self, frames: int) -> NDArray[np.float32]:
        """Read the next samples.

        Args:
            frames: Most samples per channel to read, 1 or more.

        Returns:
            The samples, shape (channels, frames), full scale at 1.0; fewer only at the end.

        Raises:
            StoppedError: At a fault; the next sample is at `position`.
        """
        frames = min(frames, max(self._frames - self.position, 0))
        buffer = np.empty((frames, self.channels), dtype=np.float32)
        filled = 0
        while filled < frames:
            room = self._end_frame - self.position - filled
            try:
                block = buffer[filled : filled + min(_READ_FRAMES, room)]
                count = len(self._file.read(out=block)) if room else 0
            except soundfile.LibsndfileError as error:
                raise StoppedError(error.error_string) from error
            if count == 0 and self._following:
                self._open_next()
                continue
            if count == 0:
                # For PCM no other decoder would read more.
                if self._frames < _UNKNOWN_FRAMES and not self._plain:
                    raise StoppedError
                break
            filled += count
        if frames == 0 and self.container == "flac" and flac_behind(self._raw):
            raise StoppedError
        self.position += filled
        return np.ascontiguousarray((buffer[:, self._order] if self._order else buffer)[:filled].T)

    def skip(self, frames: int) -> None:
        """Skip samples, at most to the end of the file.

        Raises:
            StoppedError: At a fault.
        """
        target = min(self.position + frames, self._frames)
        while self._following and target >= self._end_frame:
            self.position = self._end_frame
            self._open_next()
        if self.encoding in _LINEAR_ENCODINGS.values() and target < self._frames < _UNKNOWN_FRAMES:
            try:
                self._file.seek(target - self._first_frame)
            except soundfile.LibsndfileError as error:
                raise StoppedError(error.error_string) from error
            self.position = target
        while self.position < target:
            if not self.read(min(target - self.position, _SKIP_FRAMES)).size:
                return

    def count(self) -> int:
        """Return the expected number of samples per channel, decoding the file if necessary.

        Raises:
            StoppedError: At a fault.
        """
        if self._frames < _UNKNOWN_FRAMES:
            return self._frames
        with SampleDecoder(self._raw, self.sizes) as other:
            other.skip(_UNKNOWN_FRAMES)
            return other.position

    def complaint(self) -> str:
        """Return an empty text: faults of PCM containers are derived from `sizes`."""
        return ""

    def _add_chunks(self, sizes: SampleData) -> None:
        """Append further data chunks of the same WAV."""
        for start, length in sizes.more_chunks:
            view = FileView(self._raw, start=start, stop=start + length)
            form = {
                "format": "RAW",
                "samplerate": self.sample_rate,
                "channels": self.channels,
                "subtype": self._file.subtype,
                "endian": "BIG" if sizes.big_endian else "LITTLE",
            }
            self._add(_Part(view, length // self.frame_bytes, form))

    def _join(self, sizes: SampleData) -> None:
        """Append the recordings after the first one, as long as they have its format."""
        second = self._frames
        chunks = sum(length for _, length in sizes.more_chunks)
        announced, present = sizes.announced, sizes.present + chunks
        behind = sizes.behind - chunks
        announced = None if announced is None else announced + chunks
        recordings = 1
        for part in sizes.following:
            view = FileView(self._raw, start=part.file_start, stop=part.end_of_first())
            try:
                with open_sequential(view) as file:
                    frames, form = file.frames, (file.samplerate, file.channels, file.subtype)
            except StoppedError:
                break  # its bytes are counted with those that are not read
            if form != (self.sample_rate, self.channels, self._file.subtype):
                self.remarks.append(
                    f"is followed, after {self._frames / self.sample_rate:.3f} s, by a recording "
                    f"of {form[0]} Hz, {form[1]} channels and {_encoding(form[2])}, where the "
                    f"first has {self.sample_rate} Hz, {self.channels} and {self.encoding}: the "
                    f"{behind} bytes from there are not read; split the file to use them"
                )
                behind = 0
                break
            chunks = sum(length for _, length in part.more_chunks)
            if part.announced is None or announced is None:
                announced = None
            else:
                frames = min(frames, part.announced // self.frame_bytes)
                announced += part.announced + chunks
            self._add(_Part(view, frames))
            self._add_chunks(part)
            recordings += 1
            present, behind = present + part.present + chunks, part.behind - chunks
        if recordings > 1:
            self.remarks.append(
                f"holds {recordings} recordings end to end, the second from "
                f"{second / self.sample_rate:.3f} s on: all of them are read"
            )
        self.sizes = replace(sizes, announced=announced, present=present, behind=behind)

    def _add(self, part: _Part) -> None:
        self._following.append(part)
        self._frames += part.frames

    def _open_next(self) -> None:
        self._file.close()
        part = self._following.pop(0)
        self._file = open_sequential(part.view, part.form)
        self._first_frame = self._end_frame
        self._end_frame += part.frames


@dataclass(frozen=True)
class _Part:
    """A further part of a file's samples.

    Attributes:
        view: The part of the file.
        frames: Number of samples per channel.
        form: soundfile's arguments for samples without a header; None = there is a header.
    """

    view: FileView
    frames: int
    form: Mapping[str, Any] | None = None


def _encoding(kind: str) -> str:
    return _LINEAR_ENCODINGS.get(kind, kind.lower())
