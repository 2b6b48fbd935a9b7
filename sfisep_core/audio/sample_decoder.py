"""Read samples that stand in a file as they are, FLAC and whole Vorbis, with soundfile."""

from __future__ import annotations

import io
from typing import Any, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from sfisep_core.audio.container_sizes import SampleData, flac_behind
from sfisep_core.audio.endings import is_whole_vorbis
from sfisep_core.audio.formats import OGG_ORDER

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
# What libsndfile answers where the header does not tell the length (FLAC written to a pipe).
_UNKNOWN_FRAMES = 2**63 - 1
# libsndfile may forget what it decoded in a call that meets a fault: short calls lose little.
_READ_FRAMES = 1024
_SKIP_FRAMES = 65536
_MPEG_TAGS = (0x50, 0x55)
# Ogg, MP3, and what begins with a tag: ffmpeg counts their lengths, goes on behind faults, and
# decodes Opus files whose pages overlap in time, where libsndfile stops. It reads all blocks of a
# VOC. Of Vorbis that is whole, libsndfile alone keeps the exact length.
_HEADS = (b"OggS", b"ID3", b"Creative Voice File")
# The first to the eighth channel of FLAC. Source: RFC 9639, section 9.1.3.
_FLAC_MASKS = {3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}


class StoppedError(Exception):
    """libsndfile does not go on, or does not read this file at all."""


class SampleDecoder:
    """Read samples that stand in a file as they are, FLAC and whole Vorbis.

    Attributes:
        sample_rate: In Hz.
        channels: 1 or more.
        channel_mask: Places of the loudspeakers as WAV numbers them; 0 = not told.
        container: wav, flac, aiff, ...
        encoding: int16, int24, float32, ...
        position: Samples that were read or skipped.
        frame_bytes: Of a sample in all channels; 0 = not a whole number.
        remarks: What a user should know although nothing is wrong.
        reads_all: Whether what lies behind the announced samples is read as well.
    """

    def __init__(self, raw: io.FileIO, sizes: SampleData | None) -> None:
        """Open a file.

        Args:
            raw: The file, open; it stays open, and its position changes.
            sizes: What its chunks say.

        Raises:
            StoppedError: This file is not for libsndfile.
        """
        raw.seek(0)
        head = raw.read(20)
        vorbis = head.startswith(b"OggS") and is_whole_vorbis(raw)
        mpeg = head[:1] == b"\xff" and head[1] & 0xE0 == 0xE0
        foreign = mpeg or (sizes and (sizes.format_tag in _MPEG_TAGS or sizes.real_bytes()))
        if foreign or (head.startswith(_HEADS) and not vorbis):
            raise StoppedError
        self._raw, self._sizes = raw, sizes
        self._file = _open(raw)
        self.position = 0
        self.remarks: list[str] = []
        self.reads_all = False
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        name, kind = self._file.format, self._file.subtype
        self.container: str = _CONTAINERS.get(name, name.lower())
        self.encoding: str = _LINEAR_ENCODINGS.get(kind, kind.lower())
        self.channel_mask = sizes.channel_mask if sizes else 0
        if self.container == "flac":
            self.channel_mask = _FLAC_MASKS.get(self.channels, 0)
        self.frame_bytes: int = _SAMPLE_BYTES.get(kind, 0) * self.channels
        self._plain = self.frame_bytes > 0 and self.container != "flac"
        self._order = OGG_ORDER.get(self.channels) if self.container == "ogg" else None
        self._frames: int = self._file.frames
        if sizes is not None and sizes.announced is not None and self._plain:
            # libsndfile takes all that follows in a W64 for samples.
            self._frames = min(self._frames, sizes.announced // self.frame_bytes)

    def __enter__(self) -> Self:
        """Return the decoder itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what was opened here."""
        self._file.close()

    def read(self, frames: int) -> NDArray[np.float32]:
        """Read the next samples.

        Args:
            frames: Most samples per channel to read, 1 or more.

        Returns:
            The samples, shape (channels, frames), full scale at 1.0; fewer only at the end.

        Raises:
            StoppedError: At a fault; what comes next in time is at `position`.
        """
        frames = min(frames, max(self._frames - self.position, 0))
        buffer = np.empty((frames, self.channels), dtype=np.float32)
        filled = 0
        while filled < frames:
            try:
                count = len(self._file.read(out=buffer[filled : filled + _READ_FRAMES]))
            except soundfile.LibsndfileError as error:
                raise StoppedError(error.error_string) from error
            if count == 0:
                # Of plain samples no other decoder finds more.
                if self._frames < _UNKNOWN_FRAMES and not self._plain:
                    raise StoppedError
                break
            filled += count
        if frames == 0 and self.container == "flac" and flac_behind(self._raw):
            raise StoppedError
        self.position += filled
        return np.ascontiguousarray((buffer[:, self._order] if self._order else buffer)[:filled].T)

    def skip(self, frames: int) -> None:
        """Leave samples out, up to the end of the file.

        Raises:
            StoppedError: At a fault.
        """
        target = min(self.position + frames, self._frames)
        if self.encoding in _LINEAR_ENCODINGS.values() and target < self._frames < _UNKNOWN_FRAMES:
            try:
                self._file.seek(target)
            except soundfile.LibsndfileError as error:
                raise StoppedError(error.error_string) from error
            self.position = target
        while self.position < target:
            if not self.read(min(target - self.position, _SKIP_FRAMES)).size:
                return

    def count(self) -> int:
        """Return the samples per channel that there should be, and decode all if need be.

        Raises:
            StoppedError: At a fault.
        """
        if self._frames < _UNKNOWN_FRAMES:
            return self._frames
        with SampleDecoder(self._raw, self._sizes) as other:
            other.skip(_UNKNOWN_FRAMES)
            return other.position

    def complaint(self) -> str:
        """Return nothing: what is wrong with a container of samples, its sizes tell."""
        return ""


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A SoundFile that is read forward to wherever the data end.

    soundfile seeks after every read of a seekable file, which fails at the end of damaged files and
    takes what was just decoded with it.
    """

    def seekable(self) -> bool:
        return False


def _open(raw: io.FileIO) -> Any:
    raw.seek(0)
    try:
        # libsndfile gets the descriptor: it then judges the content and never the name.
        return _SequentialFile(raw.fileno(), closefd=False)
    except soundfile.LibsndfileError as error:
        raise StoppedError(error.error_string) from error
