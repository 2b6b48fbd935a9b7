"""Open an untrusted file with ffmpeg's libraries (PyAV), and choose its audio track."""

from __future__ import annotations

import io
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from sfisep_core.audio.container_sizes import SampleData
from sfisep_core.audio.endings import id3_end
from sfisep_core.audio.source_files import FileView, unreadable
from sfisep_core.errors import AudioFileError

# Formats that contain the samples themselves. Playlists, scripts and other formats that refer to
# further files are excluded, whatever their suffix. Names unknown to a build of ffmpeg are
# harmless.
_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,latm,loas,matroska,mlp,"
    "mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,oga,ogg,oma,rm,shn,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
)


def open_container(path: Path, raw: io.FileIO, sizes: SampleData | None) -> InputContainer:
    """Open a file without access to other files or the network.

    Args:
        path: The file.
        raw: The same file, open; it stays open, and its position changes.
        sizes: Sizes from its chunk headers.

    Returns:
        The container; the caller closes it.

    Raises:
        AudioFileError: If its format is unknown.
    """
    # A protocol that does not exist, so that no format can open another file.
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
    # ffmpeg takes minutes for a tag of many frames, and needs none.
    start = id3_end(raw)
    raw.seek(start)
    head = raw.read(2).ljust(2, b"\0")
    # A short MP3 has too few packets to be recognised. The tested bits are sync word and layer.
    kind = "mp3" if head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 6 else None
    # A WAV that states no length is read to its end.
    unread = sizes.start - 4 - start if sizes is not None and sizes.real_bytes() else None
    # The suffix helps to recognise formats without a signature.
    name = f"audio{path.suffix}".encode("ascii", "replace").decode()
    source = FileView(raw, start=start, name=name, zeros_at=unread)
    try:
        return av.open(
            source, "r", format=kind, options=options, metadata_errors="backslashreplace"
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise undecodable(path, raw, reason) from error


def choose_track(container: InputContainer) -> tuple[AudioStream | None, str]:
    """Choose the audio track to decode.

    Args:
        container: An open file.

    Returns:
        The default track, else the first one, or None if none can be decoded; and a note for the
        user on the choice, empty if there was only one track.
    """
    tracks = [track for track in container.streams.audio if track.codec_context is not None]
    if not tracks:
        return None, ""
    default = av.stream.Disposition.default
    chosen = next((track for track in tracks if track.disposition & default), tracks[0])
    if len(tracks) == 1:
        return chosen, ""
    names = [chosen.metadata.get("title"), chosen.language]
    name = ", ".join(str(name) for name in names if name)
    return chosen, (
        f"has {len(tracks)} audio tracks: number {tracks.index(chosen) + 1}"
        f"{f' ({name})' if name else ''} is used"
    )


def undecodable(path: Path, raw: io.FileIO, reason: str) -> AudioFileError:
    """Build the error for a file of which nothing can be decoded.

    Args:
        path: The file.
        raw: The same file, open; its position changes.
        reason: ffmpeg's message, or what is missing.
    """
    raw.seek(0)
    head = raw.read(16)
    actual = f"data that begin with {head!r} (ffmpeg: {reason})"
    advice = "copy or download it again, or export it anew"
    return unreadable(path, "audio", actual, advice)
