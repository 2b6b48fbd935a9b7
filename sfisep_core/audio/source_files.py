"""Open files to read, and turn what soundfile cannot read into what it can, with ffmpeg."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import soundfile

from sfisep_core.audio import ffmpeg
from sfisep_core.errors import AudioFileError

_READABLE = "WAV, FLAC, OGG, Opus or MP3"
_FFMPEG_SUFFIXES = {".m4a", ".m4b", ".mp4", ".aac", ".wma", ".mov", ".mkv", ".mka", ".webm"}
_ENDING_WITH_SAMPLES = {"OGG", "FLAC", "MP3", "AU"}
_SHORT_TAIL = 4096
_TAGS = (b"TAG", b"APETAGEX", b"LYRICS")  # ID3v1, APE, Lyrics3
# Programs that write WAV to a pipe announce the largest length they can.
_STREAMED_WAV_BYTES = 2**31 - 2**16
_CONVERT = "convert it first: ffmpeg -i INPUT OUTPUT.wav"
_INSTALL = "apt-get install ffmpeg, brew install ffmpeg, conda install ffmpeg"


@dataclass(frozen=True)
class ForeignAudio:
    """A file that ffmpeg has decoded.

    Attributes:
        samples: A file that soundfile reads, open; it has no name.
        container: The container of the source: m4a, webm, asf, ...
        codec: The codec of the source: aac, alac, opus, ...
        complaint: What ffmpeg could not decode, in its words; empty if all is there.
    """

    samples: io.FileIO
    container: str
    codec: str
    complaint: str


def open_regular_file(path: Path) -> io.FileIO:
    """Open a file that has content.

    Args:
        path: The file.

    Returns:
        The open file.

    Raises:
        AudioFileError: If it is missing, no regular file, empty, or not to be opened.
    """
    advice = "check the path"
    try:
        if path.is_file():
            raw = io.FileIO(path)
            if os.fstat(raw.fileno()).st_size > 0:
                return raw
            raw.close()
            found, advice = "an empty file (0 bytes)", "copy or download it again"
        elif path.is_dir():
            found = "a folder"
        else:
            found = "no regular file" if path.exists() else "no such file"
    except OSError as error:
        found, advice = f"an error ({error.strerror})", "check its permissions and the disk"
    raise unreadable(path, f"an audio file ({_READABLE})", found, advice)


def decode_foreign(path: Path, raw: io.FileIO, error: soundfile.LibsndfileError) -> ForeignAudio:
    """Decode with ffmpeg what soundfile cannot read.

    Args:
        path: The file.
        raw: The same, open.
        error: What soundfile says about it.

    Returns:
        The decoded samples, to be closed by the caller.

    Raises:
        AudioFileError: If ffmpeg is missing, cannot decode anything, or has no space.
    """
    raw.seek(0)
    head = raw.read(16)
    known = head[4:8] == b"ftyp" or path.suffix.lower() in _FFMPEG_SUFFIXES
    program = ffmpeg.find_ffmpeg()
    if program is None and known:
        found = "a format that needs ffmpeg (m4a, mp4, aac, wma, ...), which is not installed"
        raise unreadable(path, _READABLE, found, f"install it ({_INSTALL}), or {_CONVERT}")
    if program is not None:
        try:
            decoding = ffmpeg.decode(program, path)
        except ffmpeg.TemporarySpaceError as full:
            expected = "space for its decoded samples"
            advice = "free some space, or set TMPDIR to a folder that has more"
            raise unreadable(path, expected, str(full), advice) from full
        except OSError as failure:
            found = f"a program {program!r} that does not start ({failure.strerror})"
            raise unreadable(path, "ffmpeg", found, "install it anew") from failure
        if decoding.codec and not (decoding.is_empty() and (decoding.failed or decoding.errors)):
            return _foreign_audio(path, decoding)
        decoding.samples.close()
        if known or decoding.containers:
            # Anything of a message that comes from the file is shown escaped.
            found = f"data that ffmpeg cannot decode: {'; '.join(decoding.errors)!r}"
            if decoding.containers and not decoding.codec:
                found = f"no audio track that ffmpeg can decode: {'; '.join(decoding.errors)!r}"
            raise unreadable(path, "audio", found, "copy or download it again, or export it anew")
    found = f"data that begin with {head!r} ({error.error_string.strip()})"
    raise unreadable(path, _READABLE, found, f"if it plays elsewhere, {_CONVERT}") from error


def promised_frames(file: soundfile.SoundFile) -> int:
    """Return the frames that the header announces; libsndfile corrects those of a cut WAV."""
    size = re.search(r"^data *: (\d+) \(should be \d+\)", file.extra_info, re.MULTILINE)
    align = re.search(r"^ *Block Align *: (\d+)", file.extra_info, re.MULTILINE)
    if size and align and int(size[1]) < _STREAMED_WAV_BYTES:
        return max(int(file.frames), int(size[1]) // int(align[1]))
    return int(file.frames)


def unread_bytes(raw: io.FileIO, file_format: str) -> int:
    """Return how much of a file lies behind what libsndfile took for its end.

    Args:
        raw: The file, which libsndfile has read to that end through the same descriptor.
        file_format: libsndfile's name of the format.

    Returns:
        Bytes; 0 for a tag, a few bytes, and formats that may have anything there.
    """
    if file_format not in _ENDING_WITH_SAMPLES:
        return 0
    position = raw.tell()
    tag = raw.read(8)
    behind = os.fstat(raw.fileno()).st_size - position
    return behind if behind > _SHORT_TAIL and not tag.startswith(_TAGS) else 0


def unreadable(path: Path, expected: str, found: str, advice: str) -> AudioFileError:
    """Build the error for a file that cannot be read.

    Args:
        path: The file.
        expected: What it should be.
        found: What it is.
        advice: What to do.

    Returns:
        The error.
    """
    return AudioFileError(
        f"cannot read {str(path)!r}: expected {expected}, found {found}; {advice}"
    )


def _foreign_audio(path: Path, decoding: ffmpeg.Decoding) -> ForeignAudio:
    # ffmpeg names a family of containers; the suffix tells the member, if it is one.
    suffix = path.suffix.lower().removeprefix(".")
    names = decoding.containers
    complaint = "; ".join(decoding.errors)
    if decoding.failed and not complaint:
        complaint = "nothing, but it failed"
    return ForeignAudio(
        samples=decoding.samples,
        container=suffix if suffix in names else names[0],
        codec=decoding.codec,
        complaint=complaint,
    )
