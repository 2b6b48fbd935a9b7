"""Read and write audio files: whole here, in blocks with the reader and writer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfisep_core.audio.file_reader import BLOCK_FRAMES, AudioInfo, AudioReader
from sfisep_core.audio.file_writer import AudioWriter, complete
from sfisep_core.audio.formats import Encoding, check_output_format
from sfisep_core.errors import ConfigError

__all__ = [
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "Encoding",
    "check_output_format",
    "complete",
    "read_audio",
    "read_info",
    "write_audio",
]


def read_info(path: Path) -> AudioInfo:
    """Read the header of an audio file.

    Args:
        path: The file. Where its header does not tell the length, all of it is decoded to count.

    Returns:
        Its format and length.

    Raises:
        AudioFileError: If the file is missing or is not audio that can be read.
    """
    with AudioReader(path) as reader:
        return reader.info


def read_audio(
    path: Path, *, start: int = 0, frames: int | None = None
) -> tuple[NDArray[np.float32], int]:
    """Read an audio file, or a part of it, into memory.

    Args:
        path: The file.
        start: First sample to read, 0 or more.
        frames: Most samples to read, 0 or more; None means all up to the end.

    Returns:
        The samples, shape (channels, frames), full scale at 1.0, and the sample rate in Hz. There
        are fewer frames where the file ends earlier. A damaged file gives all that can be decoded,
        with a warning in the log.

    Raises:
        AudioFileError: If the file cannot be read, or holds NaN or Inf.
        ConfigError: If `start` or `frames` is negative.
    """
    if min(start, frames or 0) < 0:
        msg = (
            f"reading {str(path)!r}: expected start and frames of 0 or more, "
            f"got {start} and {frames}; pass positions within the file"
        )
        raise ConfigError(msg)
    with AudioReader(path) as reader:
        reader.skip(start)
        left = sys.maxsize if frames is None else frames
        # Joined from blocks: a header that lies about the length must not size an allocation.
        blocks = [np.zeros((reader.channels, 0), dtype=np.float32)]
        while left > 0 and (block := reader.read(min(left, BLOCK_FRAMES))).size > 0:
            blocks.append(block)
            left -= block.shape[1]
        return np.concatenate(blocks, axis=1), reader.sample_rate


def write_audio(
    path: Path, audio: NDArray[np.float32], *, sample_rate: int, encoding: Encoding | None = None
) -> None:
    """Write a whole signal to an audio file.

    Args:
        path: File to write, .wav, .flac, .mp3, .ogg or .opus, in a folder that exists; replaced if
            it exists.
        audio: Shape (channels, frames), full scale at 1.0.
        sample_rate: In Hz.
        encoding: Sample format of WAV or FLAC. The integers clip at full scale and round, without
            dither. None = int24, and the only choice in the lossy containers.

    Raises:
        AudioFileError: If the file cannot be written, or the samples are not finite.
        ConfigError: If the container cannot hold such audio.
    """
    channels, frames = audio.shape
    with AudioWriter(
        path, sample_rate=sample_rate, channels=channels, encoding=encoding, frames=frames
    ) as writer:
        writer.write(audio)
