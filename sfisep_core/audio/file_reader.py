"""Read audio files in blocks; everything that can be decoded is returned."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sfisep_core.audio.container_sizes import measure
from sfisep_core.audio.rates import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from sfisep_core.audio.sample_decoder import SampleDecoder
from sfisep_core.audio.sequential_file import StoppedError
from sfisep_core.audio.source_files import open_regular_file, unreadable

BLOCK_FRAMES = 65536

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AudioInfo:
    """Properties of an audio file.

    Attributes:
        path: The file.
        sample_rate: In Hz; 48000 for Opus, whatever the rate of the original was.
        channels: Number of channels, 1 or more.
        frames: Samples per channel, from the header of WAV, FLAC and similar files (a damaged one
            may contain fewer), and counted for all others.
        container: wav, flac, ogg, mp3, ...
        encoding: Sample format (int16, int24, float32, ...) or codec (vorbis, opus, mp3, ...).
        channel_mask: Loudspeaker positions as a WAV channel mask; 0 = unspecified.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    container: str
    encoding: str
    channel_mask: int = 0


class _Decoder(Protocol):
    sample_rate: int
    channels: int
    channel_mask: int
    container: str
    encoding: str
    position: int
    frame_bytes: int
    remarks: list[str]
    reads_all: bool

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def read(self, frames: int) -> NDArray[np.float32]: ...
    def skip(self, frames: int) -> None: ...
    def count(self) -> int: ...
    def complaint(self) -> str: ...


class AudioReader:
    """Read an audio file sequentially in blocks; memory does not depend on its length.

    Attributes:
        sample_rate: In Hz.
        channels: Number of channels.
    """

    _raw: io.FileIO
    _decoder: _Decoder

    def __init__(self, path: Path) -> None:
        """Open the file and read its header.

        Args:
            path: The file.

        Raises:
            AudioFileError: If the file is missing or is not audio that can be read.
        """
        self._path = Path(path)
        self._info: AudioInfo | None = None
        self._told = False
        with contextlib.ExitStack() as stack:
            self._raw = stack.enter_context(open_regular_file(self._path))
            self._sizes = measure(self._raw)
            try:
                decoder = SampleDecoder(self._raw, self._sizes)
                self._decoder, self._sizes = decoder, decoder.sizes
            except StoppedError:
                self._decoder = self._av_decoder()
            stack.callback(lambda: self._decoder.__exit__(None, None, None))
            self.sample_rate, self.channels = self._decoder.sample_rate, self._decoder.channels
            self._check_rate()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._stack.close()

    @property
    def info(self) -> AudioInfo:
        """Properties of the file; counting its length may require decoding all of it.

        Raises:
            AudioFileError: If nothing can be decoded.
        """
        if self._info is None:
            try:
                frames = self._decoder.count()
            except StoppedError:
                self._go_on_with_av()
                frames = self._decoder.count()
            self._info = AudioInfo(
                path=self._path,
                sample_rate=self.sample_rate,
                channels=self.channels,
                frames=frames,
                container=self._decoder.container,
                encoding=self._decoder.encoding,
                channel_mask=self._decoder.channel_mask if self.channels > 2 else 0,
            )
        return self._info

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
        start = self._decoder.position
        block = self._read(frames)
        finite = np.isfinite(block)
        if not finite.all():
            frame, channel = np.argwhere(~finite.T)[0]
            actual = (
                f"{block[channel, frame]} at {(start + frame) / self.sample_rate:.3f} s in channel "
                f"{channel + 1} of {self.channels}"
            )
            advice = "repair that place, or export the file again"
            raise unreadable(self._path, "finite samples", actual, advice)
        if block.shape[1] < frames:
            self._tell()
        return block

    def skip(self, frames: int) -> None:
        """Skip samples, at most to the end of the file.

        Args:
            frames: Samples per channel to skip, 0 or more.

        Raises:
            AudioFileError: If nothing can be decoded.
        """
        target = self._decoder.position + frames
        with self._disk_errors():
            try:
                self._decoder.skip(frames)
            except StoppedError:
                self._go_on_with_av()
                self._decoder.skip(target - self._decoder.position)

    def _read(self, frames: int) -> NDArray[np.float32]:
        with self._disk_errors():
            try:
                return self._decoder.read(frames)
            except StoppedError:
                self._go_on_with_av()
                return self._decoder.read(frames)

    def _av_decoder(self) -> _Decoder:
        try:
            from sfisep_core.audio.av_decoder import AvDecoder  # slow; most files do not need it
        except ImportError as error:
            actual = f"a package av that cannot be imported ({error})"
            advice = "install it anew: pip install --force-reinstall av"
            raise unreadable(self._path, "the decoders of ffmpeg", actual, advice) from error
        return AvDecoder(self._path, self._raw, self._sizes)

    def _go_on_with_av(self) -> None:
        """Continue with another decoder at this position, after a fault stopped the first one."""
        first = self._decoder
        position = first.position
        second = self._av_decoder()
        self._decoder = second
        first.__exit__(None, None, None)
        second.skip(position)
        if (second.sample_rate, second.channels) != (self.sample_rate, self.channels):
            actual = f"{second.sample_rate} Hz and {second.channels} channels behind a fault"
            expected = f"{self.sample_rate} Hz and {self.channels} channels"
            raise unreadable(self._path, expected, actual, "copy or download it again")

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            actual = f"an error ({error.strerror or error})"
            raise unreadable(self._path, "its samples", actual, "check the disk") from error

    def _check_rate(self) -> None:
        if not MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE:
            expected = f"a sample rate of {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"
            advice = "resample the file first, or correct its header"
            raise unreadable(self._path, expected, f"{self.sample_rate} Hz", advice)

    def _tell(self) -> None:
        """Log once, at the end of the file, what is wrong with it."""
        if self._told:
            return
        self._told = True
        decoder, name = self._decoder, str(self._path)
        complaint = decoder.complaint() or self._shortfall()
        if complaint and decoder.position == 0:
            advice = "the file is damaged, copy or download it again"
            raise unreadable(self._path, "samples", f"none: {complaint}", advice)
        for remark in decoder.remarks:
            _logger.warning("%r %s", name, remark)
        if complaint:
            _logger.warning(
                "%r is damaged: %s; what can be decoded is used: copy or download it again if "
                "something is missing",
                name,
                complaint,
            )
        if self._sizes is not None and self._sizes.behind and not decoder.reads_all:
            _logger.warning(
                "%r ends after %.3f s by its header, and %d bytes follow that are not read, as in "
                "recordings that were joined: split it, or correct its header, if they are music",
                name,
                decoder.position / self.sample_rate,
                self._sizes.behind,
            )

    def _shortfall(self) -> str:
        """Describe how much data a PCM container lacks; empty if it is complete."""
        if self._sizes is None or self._sizes.announced is None or not self._sizes.is_cut():
            return ""
        frames, announced = self._decoder.position, self._sizes.announced
        if self._decoder.frame_bytes:
            announced //= self._decoder.frame_bytes
        else:
            announced = announced * frames // max(self._sizes.present, 1)
        return (
            f"its header announces {announced} frames, {frames} could be decoded "
            f"({frames / self.sample_rate:.3f} s)"
        )
