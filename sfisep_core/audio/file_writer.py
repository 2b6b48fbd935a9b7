"""Write audio files in blocks with soundfile; only complete files get their final name."""

from __future__ import annotations

import contextlib
import errno
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from sfisep_core.audio import mending
from sfisep_core.audio.bitrates import compression_level, mp3_gain
from sfisep_core.audio.flac_masks import mask_texts
from sfisep_core.audio.formats import (
    BITS,
    CODECS,
    OGG_ORDER,
    SUBTYPES,
    Encoding,
    check_output_format,
)
from sfisep_core.audio.tag_writer import info_texts, write_tags
from sfisep_core.audio.tags import NO_TAGS, Tags
from sfisep_core.errors import AudioFileError, ConfigError
from sfisep_core.foundation.atomic import put_all_in_place, remove_left_overs, temporary_beside

__all__ = ["AudioWriter", "Encoding", "check_output_format", "complete"]

# A long write overflows the stack in some of libsndfile's encoders; short ones are as fast.
_BLOCK_FRAMES = 4096
# A WAV header counts bytes in 32 bits, and the header itself is part of the count.
_WAV_MAX_BYTES = 2**32 - 2**16
_OPUS_CLOCK = 48_000


class AudioWriter:
    """Write an audio file in blocks.

    The samples go to a hidden temporary file in the same folder. Leaving the `with` block renames
    it to its final name; leaving it by an exception, Ctrl-C included, removes it.

    WAV and FLAC store the samples losslessly in the requested encoding. Lossy containers are
    written with the exact length and no delay, and clip at full scale. Unless a bit rate is given,
    their quality is transparent: .mp3 at the codec's highest constant bit rate (320 kbit/s; 160
    below 32 kHz; 64 below 16 kHz), .ogg as Vorbis of quality 9 (about 320 kbit/s for stereo at
    44.1 kHz), .opus at about 156 kbit/s per channel. Equal samples give equal files.

    Attributes:
        path: Final name.
        temporary: Name until the file is complete.
    """

    def __init__(
        self,
        path: Path,
        *,
        sample_rate: int,
        channels: int,
        encoding: Encoding | None = None,
        frames: int | None = None,
        channel_mask: int = 0,
        tags: Tags = NO_TAGS,
        bitrate: int | None = None,
    ) -> None:
        """Check the format; nothing is written yet.

        Args:
            path: File to write, .wav, .flac, .mp3, .ogg or .opus, in a folder that exists; replaced
                if it exists.
            sample_rate: In Hz.
            channels: Number of channels, in the order of WAV.
            encoding: Sample format of WAV or FLAC. Integer formats clip at full scale and round,
                without dither. None = int24; lossy containers require None.
            frames: Expected length in samples, from which RF64 is chosen for a WAV of 4 GiB or
                more. None means unknown; a WAV that reaches 4 GiB is then an error.
            channel_mask: Loudspeaker positions as a WAV channel mask, only for WAV and FLAC; 0 =
                unspecified.
            tags: Tags of the file.
            bitrate: Of .mp3, .ogg or .opus, in kbit/s; None = the codec's own.

        Raises:
            ConfigError: If the container cannot hold such audio.
        """
        self.path = Path(path)
        container = self.path.suffix.lower().removeprefix(".")
        check_output_format(container, encoding, channels, sample_rate, bitrate)
        self._sample_rate = sample_rate
        self._channels = channels
        self._encoding: Encoding = encoding or "int24"
        self._codec = CODECS.get(container)
        self._level = self._codec.compression_level if self._codec else None
        if bitrate is not None:
            self._level = compression_level(
                container, bitrate, channels=channels, sample_rate=sample_rate
            )
        is_mp3 = container == "mp3"
        self._gain = mp3_gain(bitrate, sample_rate=sample_rate) if is_mp3 else 1.0
        self._frames = 0
        self._max_frames = _WAV_MAX_BYTES // (channels * BITS[self._encoding] // 8)
        self._format = self._codec.format if self._codec else container.upper()
        self._channel_mask = channel_mask if container == "wav" else 0
        if container == "wav" and (frames or 0) > self._max_frames:
            self._format = "RF64"
        if container == "flac":
            texts = {**tags.texts, **mask_texts(channel_mask, channels)}
            tags = replace(tags, texts=texts)
        self._tags = tags
        self.temporary = temporary_beside(self.path)

    def __enter__(self) -> Self:
        """Open the temporary file.

        Raises:
            AudioFileError: If no file can be made there.
        """
        with contextlib.ExitStack() as stack, disk_errors(self.path):
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "a folder of that name")
            remove_left_overs(self.path.parent)
            self._raw = io.FileIO(self.temporary, "x+")
            # On success it has been renamed before this runs.
            stack.callback(self.temporary.unlink, missing_ok=True)
            stack.enter_context(self._raw)
            self._file: Any = soundfile.SoundFile(
                self._raw.fileno(),
                "w",
                samplerate=self._sample_rate,
                channels=self._channels,
                # Only the extensible header has a field for the mask; RF64 always uses it.
                format="WAVEX" if self._channel_mask and self._format == "WAV" else self._format,
                subtype=self._codec.subtype if self._codec else SUBTYPES[self._encoding],
                compression_level=self._level,
                bitrate_mode=self._codec.bitrate_mode if self._codec else None,
                closefd=False,
            )
            stack.callback(self._abandon)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Rename the file to its final name, or remove it after an exception.

        Raises:
            AudioFileError: If not all of it could be written.
        """
        with self._stack:
            if kind is None and not self._raw.closed:
                complete([self])

    def finish(self) -> None:
        """Complete the file under its temporary name; nothing can be written afterwards."""
        with disk_errors(self.path):
            # Without any sample libsndfile writes MP3 and Opus files that it cannot open again.
            surplus = int(self._format in ("MP3", "OGG") and self._frames == 0)
            if surplus:
                self._file.write(np.zeros((surplus, self._channels), dtype=np.float32))
            self._write_info()
            self._file.close()
            self._mend(surplus)
            if self._tags != NO_TAGS:
                write_tags(self.temporary, self._tags)
            self._check_complete()
            self._raw.close()

    def write(self, block: NDArray[np.float32]) -> None:
        """Append samples.

        Args:
            block: Shape (channels, frames), full scale at 1.0; any number of frames from 0.

        Raises:
            AudioFileError: If the disk is full, or the samples are not finite.
            ConfigError: If the block has another shape.
        """
        if block.ndim != 2 or block.shape[0] != self._channels:
            msg = (
                f"writing {str(self.path)!r}: expected a block of shape ({self._channels}, "
                f"frames), got {block.shape}; put the channels first"
            )
            raise ConfigError(msg)
        if not np.isfinite(block).all():
            actual = f"NaN or Inf after {self._frames / self._sample_rate:.3f} s"
            advice = "check the model and the input that gave them"
            raise _unwritable(self.path, "finite samples", actual, advice)
        self._frames += block.shape[1]
        if self._format == "WAV" and self._frames > self._max_frames:
            actual = f"{self._frames} frames of {self._channels} channels"
            advice = "write FLAC, or give the length beforehand so that RF64 is chosen"
            raise _unwritable(self.path, "less than 4 GiB in WAV", actual, advice)
        with disk_errors(self.path):
            for start in range(0, block.shape[1], _BLOCK_FRAMES):
                self._file.write(self._encode(block[:, start : start + _BLOCK_FRAMES]).T)

    def _encode(self, block: NDArray[np.float32]) -> NDArray[Any]:
        # soundfile's own conversion rounds down in WAV and to the nearest in FLAC. This one is the
        # inverse of reading, which divides by 2**(bits - 1), so that samples that were read are
        # written unchanged.
        if self._codec:
            block = np.clip(block, -1, 1)
            if self._gain != 1:
                block = block / np.float32(self._gain)
            if self._format == "OGG" and self._channels in OGG_ORDER:
                block = block[np.argsort(OGG_ORDER[self._channels])]
        if self._codec or self._encoding == "float32":
            return block.astype(np.float32, copy=False)
        full_scale = 1 << (BITS[self._encoding] - 1)
        steps = np.minimum(np.rint(np.clip(block, -1, 1) * full_scale), full_scale - 1)
        if self._encoding == "int16":
            return steps.astype(np.int16)
        return np.left_shift(steps.astype(np.int32), 8)  # soundfile takes the upper 24 bits

    def _abandon(self) -> None:
        # Closing writes headers, which fails on a full disk; this file is removed anyway.
        with contextlib.suppress(soundfile.LibsndfileError):
            self._file.close()

    def _write_info(self) -> None:
        # Set behind the samples, so that they stand at the end and the header is as without them.
        # In a file without samples libsndfile does not count them in its size.
        if self._format in ("WAV", "RF64") and self._frames > 0:
            for name, text in info_texts(self._tags).items():
                setattr(self._file, name, text)

    def _mend(self, surplus: int) -> None:
        if self._format == "OGG":
            # Opus counts samples at one rate, whatever the rate of the signal.
            opus = self._codec is not None and self._codec.subtype == "OPUS"
            mending.mend_ogg(self._raw, surplus * (_OPUS_CLOCK // self._sample_rate if opus else 1))
        elif self._format == "MP3":
            mending.mend_mp3(self._raw, surplus)
        elif self._format == "FLAC" and self._frames == 0:
            bits = BITS[self._encoding]
            self._raw.seek(0)
            self._raw.write(mending.empty_flac(self._sample_rate, self._channels, bits))
        elif self._format == "WAV" and self._encoding == "float32":
            mending.clear_peak_time(self._raw)
        if self._channel_mask:
            mending.set_channel_mask(self._raw, self._channel_mask)

    def _check_complete(self) -> None:
        # libsndfile reports no error when the last block of a FLAC does not fit on the disk.
        if self._frames > 0:
            self._raw.seek(0)
            with soundfile.SoundFile(self._raw.fileno(), closefd=False) as file:
                if file.frames != self._frames:
                    raise OSError(errno.ENOSPC, f"a file cut short of its {self._frames} frames")


class _Writer(Protocol):
    path: Path
    temporary: Path

    def finish(self) -> None: ...


def complete(writers: Sequence[_Writer]) -> None:
    """Complete files that belong together, and give all of them their final names, or none.

    Args:
        writers: Within their `with` blocks; nothing can be written to them afterwards.

    Raises:
        AudioFileError: The disk did not take all of one, or one cannot get its name.
    """
    for writer in writers:
        writer.finish()
    try:
        put_all_in_place({writer.temporary: writer.path for writer in writers})
    except OSError as error:
        with disk_errors(Path(error.filename2 or writers[0].path)):
            raise


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Convert errors of the disk to an error that names the file."""
    try:
        yield
    # soundfile asserts that all samples were taken, so a short write is an AssertionError.
    except (OSError, AssertionError, soundfile.LibsndfileError) as error:
        actual = getattr(error, "strerror", None) or "a disk that takes no more data"
        expected = "an existing, writable folder with free space"
        advice = "make the folder, free some space, or choose another place"
        raise _unwritable(path, expected, actual, advice) from error


def _unwritable(path: Path, expected: str, found: str, advice: str) -> AudioFileError:
    return AudioFileError(
        f"cannot write {str(path)!r}: expected {expected}, found {found}; {advice}"
    )
