"""Read audio files in blocks with soundfile or ffmpeg; what can be decoded is never lost."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from sfisep_core.audio.formats import OGG_ORDER
from sfisep_core.audio.rates import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from sfisep_core.audio.source_files import (
    decode_foreign,
    open_regular_file,
    promised_frames,
    unread_bytes,
    unreadable,
)

_logger = logging.getLogger(__name__)

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
_CODECS = {"MPEG_LAYER_III": "mp3"}
# What libsndfile answers where the header does not tell the length (FLAC written to a pipe).
_UNKNOWN_FRAMES = 2**63 - 1
# A WAV of this size whose header announces no samples was not closed by its recorder.
_EMPTY_WAV_BYTES = 4096
# libsndfile may forget what it decoded in a call that meets a fault: short calls lose little.
_READ_FRAMES = 1024
_MAX_FAULTS = 3
BLOCK_FRAMES = 65536


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes:
        path: The file.
        sample_rate: In Hz.
        channels: Number of channels, 1 or more.
        frames: Samples per channel; a damaged file may hold fewer.
        container: wav, flac, ogg, mp3, ...
        encoding: Sample format (int16, int24, float32, ...) or codec (vorbis, opus, mp3, ...).
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    container: str
    encoding: str


class AudioReader:
    """Read an audio file forward, once, in blocks; memory does not depend on its length.

    Attributes:
        info: What the header says.
    """

    info: AudioInfo
    _raw: io.FileIO
    _position: int
    _ended: bool

    def __init__(self, path: Path) -> None:
        """Open the file and read its header.

        Args:
            path: The file.

        Raises:
            AudioFileError: If the file is missing or is not audio that can be read.
        """
        self._path = Path(path)
        self._complaint = ""
        with contextlib.ExitStack() as stack:
            self._raw = stack.enter_context(open_regular_file(self._path))
            foreign = None
            try:
                self._file = self._start()
            except soundfile.LibsndfileError as error:
                foreign = decode_foreign(self._path, self._raw, error)
                self._raw = stack.enter_context(foreign.samples)
                self._complaint = foreign.complaint
                self._file = self._start()
            stack.callback(lambda: self._file.close())
            self._promised = promised_frames(self._file)
            if self._promised == _UNKNOWN_FRAMES:
                self._promised = self._count()
            self.info = AudioInfo(
                path=self._path,
                sample_rate=self._file.samplerate,
                channels=self._file.channels,
                frames=min(self._promised, self._file.frames),
                container=foreign.container if foreign else self._container(),
                encoding=foreign.codec if foreign else self._encoding(),
            )
            ogg = self._file.format == "OGG"
            self._order = OGG_ORDER.get(self.info.channels) if ogg else None
            self._check_header()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._stack.close()

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[NDArray[np.float32]]:
        """Yield the samples from the current position to the end.

        Args:
            block_frames: Samples per channel in each block but the last, 1 or more.

        Yields:
            Blocks of shape (channels, frames), full scale at 1.0; none for an empty file.

        Raises:
            AudioFileError: If nothing can be decoded, or at the first NaN or Inf.
        """
        while (block := self.read(block_frames)).size > 0:
            yield block

    def read(self, frames: int) -> NDArray[np.float32]:
        """Read the next samples.

        Args:
            frames: Most samples per channel to read, 1 or more.

        Returns:
            The samples, shape (channels, frames), full scale at 1.0; fewer only at the end.

        Raises:
            AudioFileError: If nothing can be decoded, or if one of them is NaN or Inf.
        """
        start = self._position
        block = self._decode(frames)
        if self._order:
            block = block[:, self._order]
        finite = np.isfinite(block)
        if not finite.all():
            frame, channel = np.argwhere(~finite)[0]
            seconds = (start + frame) / self.info.sample_rate
            found = (
                f"{block[frame, channel]} at {seconds:.3f} s in channel {channel + 1} of "
                f"{self.info.channels}"
            )
            advice = "repair that place, or export the file again"
            raise unreadable(self._path, "finite samples", found, advice)
        return np.ascontiguousarray(block.T)

    def skip(self, frames: int) -> None:
        """Move forward.

        Args:
            frames: Samples per channel to leave out, 0 or more.

        Raises:
            AudioFileError: If nothing can be decoded.
        """
        target = self._position + frames
        # libsndfile's seek lands on wrong samples in Vorbis, so codecs are decoded up to there.
        if self._file.subtype in _LINEAR_ENCODINGS and target < self._file.frames < _UNKNOWN_FRAMES:
            try:
                self._file.seek(target)
            except soundfile.LibsndfileError:  # a damaged file: decode, to find where it ends
                self._file.close()
                self._file = self._start()
            else:
                self._position = target
        while self._position < target and not self._ended:
            self._decode(min(target - self._position, BLOCK_FRAMES))

    def _start(self) -> Any:
        self._raw.seek(0)
        self._position = 0
        self._faults = 0
        self._ended = False
        # libsndfile gets the descriptor: it then judges the content and never the name.
        return _SequentialFile(self._raw.fileno(), closefd=False)

    def _container(self) -> str:
        name: str = self._file.format
        return _CONTAINERS.get(name, name.lower())

    def _encoding(self) -> str:
        name: str = self._file.subtype
        return {**_LINEAR_ENCODINGS, **_CODECS}.get(name, name.lower())

    def _count(self) -> int:
        self._promised = 0
        while not self._ended:
            self._decode(BLOCK_FRAMES)
        frames = self._position
        self._file.close()
        self._file = self._start()
        return frames

    def _decode(self, frames: int) -> NDArray[np.float32]:
        """Return the next samples, shape (frames, channels); fewer only at the end."""
        buffer = np.empty((frames, self._file.channels), dtype=np.float32)
        filled = 0
        while filled < frames and not self._ended:
            try:
                count = len(self._file.read(out=buffer[filled : filled + _READ_FRAMES]))
                self._ended = count == 0
            except soundfile.LibsndfileError:
                # What was decoded before the fault is in the buffer, and libsndfile counted it.
                count = self._file.tell() - self._position
                self._faults += 1
                self._ended = self._faults == _MAX_FAULTS
            filled += count
            self._position += count
            if self._ended:
                self._check_end()
        return buffer[:filled]

    def _check_header(self) -> None:
        if not MIN_SAMPLE_RATE <= self.info.sample_rate <= MAX_SAMPLE_RATE:
            expected = f"a sample rate of {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"
            advice = "resample the file first, or correct its header"
            raise unreadable(self._path, expected, f"{self.info.sample_rate} Hz", advice)
        file_bytes = os.fstat(self._raw.fileno()).st_size
        if self.info.container == "wav" and self.info.frames == 0 < file_bytes - _EMPTY_WAV_BYTES:
            found = f"0 frames announced in a file of {file_bytes} bytes"
            advice = "if a recorder crashed, rebuild it: ffmpeg -ignore_length 1 -i INPUT OUTPUT"
            raise unreadable(self._path, "a header that tells the length", found, advice)

    def _check_end(self) -> None:
        if self._position == 0 < self._promised:
            expected = f"{self._promised} frames as its header announces"
            advice = "the file is damaged, copy or download it again"
            raise unreadable(self._path, expected, "none that can be decoded", advice)
        seconds = self._position / self._file.samplerate
        if self._complaint:
            _logger.warning(
                "%r is damaged: ffmpeg says %r, %d frames could be decoded (%.3f s) and are used; "
                "copy or download it again if something is missing",
                str(self._path),
                self._complaint,
                self._position,
                seconds,
            )
        elif self._position >= self._promised and (
            unread := unread_bytes(self._raw, self._file.format)
        ):
            _logger.warning(
                "%r ends after %.3f s by its header, and %d bytes follow that are not read, as in "
                "recordings that were joined; for all of it: ffmpeg -i INPUT OUTPUT.wav",
                str(self._path),
                seconds,
                unread,
            )
        elif self._faults > 0 or self._position < self._promised:
            _logger.warning(
                "%r is damaged: its header announces %d frames, %d could be decoded (%.3f s) and "
                "are used; copy or download it again if something is missing",
                str(self._path),
                self._promised,
                self._position,
                seconds,
            )


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A SoundFile that is read forward to wherever the data end.

    soundfile seeks after every read of a seekable file, which fails at the end of damaged files and
    takes what was just decoded with it.
    """

    def seekable(self) -> bool:
        return False
