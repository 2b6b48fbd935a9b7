"""Write audio files in blocks with soundfile; a file has its name only when it is complete."""

from __future__ import annotations

import contextlib
import errno
import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import soundfile
from numpy.typing import NDArray

from sfisep_core.errors import AudioFileError, ConfigError

Encoding = Literal["int16", "int24", "float32"]

_SUBTYPES = {"int16": "PCM_16", "int24": "PCM_24", "float32": "FLOAT"}
_BITS = {"int16": 16, "int24": 24, "float32": 32}

# One long write overflows the stack of some of libsndfile's encoders; short ones cost nothing.
_BLOCK_FRAMES = 4096
# A WAV header counts bytes in 32 bits, and the header itself is part of the count.
_WAV_MAX_BYTES = 2**32 - 2**16
_WAV_MAX_CHANNELS = 1024
_FLAC_MAX_CHANNELS = 8
# A FLAC frame header has 16 bits for a rate in Hz or in tens of Hz; libsndfile needs one to fit.
_FLAC_MAX_RATE = 2**16 - 1
_FLAC_MAX_ROUND_RATE = 10 * _FLAC_MAX_RATE


class AudioWriter:
    """Write an audio file in blocks.

    The samples go to a hidden temporary file in the same folder. Leaving the `with` block renames
    it to its final name; leaving it by an exception, Ctrl-C included, removes it.
    """

    def __init__(
        self,
        path: Path,
        *,
        sample_rate: int,
        channels: int,
        encoding: Encoding,
        frames: int | None = None,
    ) -> None:
        """Check the format; nothing is written yet.

        Args:
            path: File to write, .wav or .flac, in a folder that exists; replaced if it exists.
            sample_rate: In Hz.
            channels: Number of channels.
            encoding: Sample format. The integers clip at full scale and round, without dither.
            frames: Expected length in samples, by which a WAV of 4 GiB or more becomes RF64. None
                means unknown; a WAV that reaches 4 GiB is then refused.

        Raises:
            ConfigError: If the container cannot hold such audio.
        """
        self._path = Path(path)
        container = self._path.suffix.lower().removeprefix(".")
        check_output_format(container, encoding, channels, sample_rate)
        self._sample_rate = sample_rate
        self._channels = channels
        self._encoding = encoding
        self._frames = 0
        self._max_frames = _WAV_MAX_BYTES // (channels * _BITS[encoding] // 8)
        self._format = container.upper()
        if container == "wav" and (frames or 0) > self._max_frames:
            self._format = "RF64"
        # Cut, because a name of 255 bytes has no room for the additions.
        name = f".{self._path.stem[:40]}.{secrets.token_hex(8)}.part{self._path.suffix}"
        self._temporary = self._path.with_name(name)

    def __enter__(self) -> Self:
        """Open the temporary file.

        Raises:
            AudioFileError: If no file can be made there.
        """
        with contextlib.ExitStack() as stack, _disk_errors(self._path):
            if self._path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "a folder of that name")
            self._raw = io.FileIO(self._temporary, "x+")
            # A success has renamed it when this runs.
            stack.callback(self._temporary.unlink, missing_ok=True)
            stack.enter_context(self._raw)
            self._file: Any = soundfile.SoundFile(
                self._raw.fileno(),
                "w",
                samplerate=self._sample_rate,
                channels=self._channels,
                format=self._format,
                subtype=_SUBTYPES[self._encoding],
                closefd=False,
            )
            stack.callback(self._abandon)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give the file its final name, or remove it if there was an exception.

        Raises:
            AudioFileError: If the disk did not take all of it.
        """
        with self._stack, _disk_errors(self._path):
            if kind is None:
                self.finish()
                self._temporary.replace(self._path)

    def finish(self) -> None:
        """Complete the file under its temporary name; nothing can be written afterwards.

        Leaving the block does this too. Called before, for each of several files, it makes sure
        that all are complete before the first gets its final name.

        Raises:
            AudioFileError: If the disk did not take all of it.
        """
        if self._raw.closed:
            return
        with _disk_errors(self._path):
            self._file.close()
            self._mend()
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
                f"writing {str(self._path)!r}: expected a block of shape ({self._channels}, "
                f"frames), got {block.shape}; put the channels first"
            )
            raise ConfigError(msg)
        if not np.isfinite(block).all():
            found = f"NaN or Inf after {self._frames / self._sample_rate:.3f} s"
            advice = "check the model and the input that gave them"
            raise _unwritable(self._path, "finite samples", found, advice)
        self._frames += block.shape[1]
        if self._format == "WAV" and self._frames > self._max_frames:
            found = f"{self._frames} frames of {self._channels} channels"
            advice = "write FLAC, or give the length beforehand so that RF64 is chosen"
            raise _unwritable(self._path, "less than 4 GiB in WAV", found, advice)
        with _disk_errors(self._path):
            for start in range(0, block.shape[1], _BLOCK_FRAMES):
                self._file.write(self._encode(block[:, start : start + _BLOCK_FRAMES]).T)

    def _encode(self, block: NDArray[np.float32]) -> NDArray[Any]:
        # soundfile's own conversion rounds down in WAV and to the nearest in FLAC. This one is the
        # inverse of reading, which divides by 2**(bits - 1): what was read is written unchanged.
        if self._encoding == "float32":
            return block.astype(np.float32, copy=False)
        full_scale = 1 << (_BITS[self._encoding] - 1)
        steps = np.minimum(np.rint(np.clip(block, -1, 1) * full_scale), full_scale - 1)
        if self._encoding == "int16":
            return steps.astype(np.int16)
        return np.left_shift(steps.astype(np.int32), 8)  # soundfile takes the upper 24 bits

    def _abandon(self) -> None:
        # Closing writes headers, which fails on a full disk; nobody will read this file.
        with contextlib.suppress(soundfile.LibsndfileError):
            self._file.close()

    def _mend(self) -> None:
        """Correct two things that libsndfile writes."""
        self._raw.seek(0)
        if self._format == "FLAC" and self._frames == 0:
            # Without a first sample it writes no header either.
            self._raw.write(_empty_flac(self._sample_rate, self._channels, _BITS[self._encoding]))
        elif self._format == "WAV" and self._encoding == "float32":
            # The PEAK chunk holds the time of day; zeros make equal samples equal files.
            header = self._raw.read(256)
            peak = header[: header.find(b"data")].find(b"PEAK")
            if peak > 0:
                self._raw.seek(peak + 12)
                self._raw.write(bytes(4))

    def _check_complete(self) -> None:
        # libsndfile reports no error when the last block of a FLAC does not fit on the disk.
        if self._frames > 0:
            self._raw.seek(0)
            with soundfile.SoundFile(self._raw.fileno(), closefd=False) as file:
                if file.frames != self._frames:
                    raise OSError(errno.ENOSPC, f"a file cut short of its {self._frames} frames")


def check_output_format(container: str, encoding: str, channels: int, sample_rate: int) -> None:
    """Refuse, before any work is done, what a container cannot hold.

    Args:
        container: wav or flac.
        encoding: int16, int24 or float32; FLAC has no float32.
        channels: 1 to 1024, in FLAC 1 to 8.
        sample_rate: In Hz, 1 or more; in FLAC up to 65535 Hz, or a multiple of 10 up to 655350 Hz.

    Raises:
        ConfigError: If the combination cannot be written.
    """
    flac = container == "flac"
    max_channels = _FLAC_MAX_CHANNELS if flac else _WAV_MAX_CHANNELS
    if container not in ("wav", "flac"):
        expected, got = "a file that ends in .wav or .flac", f"'.{container}'"
        advice = "write WAV and convert it with ffmpeg"
    elif encoding not in get_args(Encoding):
        expected, got, advice = "int16, int24 or float32", repr(encoding), "choose one of them"
    elif flac and encoding == "float32":
        expected, got, advice = "int16 or int24 in FLAC", encoding, "choose int24, or WAV"
    elif not 1 <= channels <= max_channels:
        expected, got = f"1 to {max_channels} channels in {container.upper()}", str(channels)
        advice = "choose WAV" if flac else "write fewer channels"
    elif sample_rate < 1:
        expected, got, advice = "a sample rate of 1 Hz or more", f"{sample_rate} Hz", "correct it"
    elif flac and not (
        sample_rate <= _FLAC_MAX_RATE
        or (sample_rate <= _FLAC_MAX_ROUND_RATE and sample_rate % 10 == 0)
    ):
        expected = (
            f"a sample rate of up to {_FLAC_MAX_RATE} Hz, or a multiple of 10 Hz up to "
            f"{_FLAC_MAX_ROUND_RATE} Hz, in FLAC"
        )
        got, advice = f"{sample_rate} Hz", "choose WAV"
    else:
        return
    msg = f"cannot write this audio format: expected {expected}, got {got}; {advice}"
    raise ConfigError(msg)


def _empty_flac(sample_rate: int, channels: int, bits: int) -> bytes:
    # "fLaC" and the STREAMINFO block: block sizes, frame sizes (unknown), 20 bits of rate, 3 of
    # channels - 1, 5 of bits - 1, 36 of total samples, MD5 (unknown). RFC 9639, section 8.2.
    packed = sample_rate << 44 | (channels - 1) << 41 | (bits - 1) << 36
    block_sizes = (4096).to_bytes(2, "big") * 2
    info = block_sizes + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + b"\x80" + len(info).to_bytes(3, "big") + info


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong on the disk into an error that names the file."""
    try:
        yield
    # soundfile asserts that all samples were taken, so a short write is an AssertionError.
    except (OSError, AssertionError, soundfile.LibsndfileError) as error:
        found = getattr(error, "strerror", None) or "a disk that takes no more data"
        expected = "an existing, writable folder with free space"
        advice = "make the folder, free some space, or choose another place"
        raise _unwritable(path, expected, found, advice) from error


def _unwritable(path: Path, expected: str, found: str, advice: str) -> AudioFileError:
    return AudioFileError(
        f"cannot write {str(path)!r}: expected {expected}, found {found}; {advice}"
    )
