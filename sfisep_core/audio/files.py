"""Read and write whole audio files; `file_reader` and `file_writer` work in blocks."""

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
        path: The file. If its header does not state the length, the whole file is decoded.

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
        frames: Maximum number of samples to read, 0 or more; None means up to the end.

    Returns:
        The samples, shape (channels, frames), full scale at 1.0, and the sample rate in Hz. There
        are fewer frames if the file ends earlier. Of a damaged file all that can be decoded is
        returned, with a warning in the log.

    Raises:
        AudioFileError: If the file cannot be read, or contains NaN or Inf.
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
        # Joined from blocks: the length in the header cannot be trusted for an allocation.
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
        encoding: Sample format of WAV or FLAC. Integer formats clip at full scale and round,
            without dither. None = int24; lossy containers require None.

    Raises:
        AudioFileError: If the file cannot be written, or the samples are not finite.
        ConfigError: If the container cannot store such audio.
    """
    channels, frames = audio.shape
    with AudioWriter(
        path, sample_rate=sample_rate, channels=channels, encoding=encoding, frames=frames
    ) as writer:
        writer.write(audio)
