"""MUSDB18: its standard validation split, and its `.stem.mp4` files, read through `musdb`.

Source:
    Z. Rafii, A. Liutkus, F.-R. Stöter, S. I. Mimilakis, R. Bittner: The MUSDB18 corpus for music
    separation, 2017; the validation tracks are those that the package `musdb` names.
"""

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sfisep_core.audio.file_reader import AudioInfo
from sfisep_core.errors import AudioFileError, DatasetError
from sfisep_core.foundation.exit_signals import raise_received

SUFFIX = ".stem.mp4"
STREAMS = ("mixture", "drums", "bass", "other", "vocals")
"""Content of the audio streams of a `.stem.mp4`, in order."""

VALIDATION_TRACKS = frozenset(
    {
        "ANiMAL - Rockshow",
        "Actions - One Minute Smile",
        "Alexander Ross - Goodbye Bolero",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Fergessen - Nos Palpitants",
        "James May - On The Line",
        "Johnny Lokke - Promises & Lies",
        "Leaf - Summerghost",
        "Meaxic - Take A Step",
        "Patrick Talbot - A Reason To Leave",
        "Skelpolu - Human Mistakes",
        "Traffic Experiment - Sirens",
        "Triviul - Angelsaint",
        "Young Griffo - Pennies",
    }
)
"""Names of the training tracks that are the standard validation split."""

# The first box of an MP4 file, after the four bytes of its length, which is some dozen bytes.
_MP4_START = b"ftyp"
_LONGEST_START = 2**16 - 1
# Encoders pad the last AAC frame and store lengths in milliseconds: two frames cover both.
_LENGTH_TOLERANCE = 2048


def check_ffmpeg() -> None:
    """Check that `.stem.mp4` files can be read here.

    Raises:
        DatasetError: ffmpeg or ffprobe is missing.
    """
    missing = [name for name in ("ffmpeg", "ffprobe") if shutil.which(name) is None]
    if missing:
        msg = (
            f"reading the {SUFFIX} files of MUSDB18 needs the programs ffmpeg and ffprobe; not "
            f"found: {', '.join(missing)}: install ffmpeg, which brings both (`apt-get install "
            "ffmpeg`, `brew install ffmpeg`, `conda install ffmpeg`), or prepare MUSDB18-HQ, which "
            "needs neither"
        )
        raise DatasetError(msg)


def read_stem_info(path: Path) -> AudioInfo:
    """Read the header of a `.stem.mp4` file.

    Returns:
        Format and length of its streams, which are equal; the length is that of the header.

    Raises:
        AudioFileError: It cannot be read, or does not contain five audio streams of one format.
    """
    with _errors_of(path):
        return _info(path, _open(path))


def read_stem(path: Path, stream: str) -> npt.NDArray[np.float32]:
    """Decode one stream of a `.stem.mp4` file, as `musdb` does: to 16 bits.

    Args:
        path: The file.
        stream: One of `STREAMS`.

    Returns:
        The samples, shape (channel, time), full scale at 1.0.

    Raises:
        AudioFileError: It cannot be decoded, or only in part.
    """
    with _errors_of(path), _no_input():
        track = _open(path)
        info = _info(path, track)
        samples = track.load_audio(str(path.absolute()), STREAMS.index(stream))
        # For a single channel the axis is missing.
        audio = samples.reshape(-1, info.channels).T.astype(np.float32)
    if audio.shape[1] < max(1, info.frames - _LENGTH_TOLERANCE):
        msg = (
            f"{path} is damaged: expected {info.frames} frames of {stream}, {audio.shape[1]} could "
            "be decoded; copy or download it again"
        )
        raise AudioFileError(msg)
    return np.ascontiguousarray(audio)


def _open(path: Path) -> Any:
    check_ffmpeg()
    with path.open("rb") as file:
        length, kind = int.from_bytes(file.read(4), "big"), file.read(len(_MP4_START))
    # The program ffmpeg finds out by itself what a file is: a playlist would have it open others.
    # Playlists are texts, which never begin with the zeros of a length like this.
    if kind != _MP4_START or length > _LONGEST_START:
        msg = f"cannot read {str(path)!r}: expected an MP4 file; copy or download it again"
        raise AudioFileError(msg)
    with warnings.catch_warnings():
        # Deprecation warnings of its dependencies do not concern the user.
        warnings.simplefilter("ignore", DeprecationWarning)
        import musdb  # imported here, because the import fails without ffmpeg

    return musdb.MultiTrack(path=str(path.absolute()), name=path.name, stem_id=0)


def _info(path: Path, track: Any) -> AudioInfo:
    info = track.info
    formats = {
        (info.sample_rate(number), info.channels(number), stream["codec_name"])
        for number, stream in enumerate(info.audio_streams)
    }
    count = len(STREAMS)
    if info.audio_stream_idx()[:count] != list(range(count)) or len(formats) != 1:
        streams = ", ".join(
            f"{stream['index']}: {stream['codec_name']} {stream['sample_rate']} Hz "
            f"{stream['channels']} channels"
            for stream in info.audio_streams
        )
        msg = (
            f"cannot read {str(path)!r}: expected {count} audio streams of one format "
            f"({', '.join(STREAMS)}), found {streams or 'none'}; copy or download it again"
        )
        raise AudioFileError(msg)
    ((sample_rate, channels, codec),) = formats
    frames = min(info.samples(number) for number in range(count))
    return AudioInfo(path, sample_rate, channels, frames, container="mp4", encoding=codec)


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Convert any error in musdb, stempeg and ffmpeg to an error that names the file."""
    try:
        yield
    except (AudioFileError, DatasetError):
        raise
    except Exception as error:  # they raise ffmpeg.Error, Warning, KeyError, ValueError, ...
        raise_received()
        said = getattr(error, "stderr", None) or str(error).encode()
        reason = said.decode(errors="replace").strip().rpartition("\n")[2] or repr(error)
        msg = (
            f"cannot read {str(path)!r}: expected a {SUFFIX} file of MUSDB18, ffmpeg says: "
            f"{reason}; copy or download it again"
        )
        raise AudioFileError(msg) from error


@contextlib.contextmanager
def _no_input() -> Iterator[None]:
    """Prevent stempeg's ffmpeg from reading standard input."""
    if sys.stdin is None:
        yield
        return
    saved, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(nothing, 0)
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(nothing)
