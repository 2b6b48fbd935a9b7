"""Open a file that is not trusted with the libraries of ffmpeg (PyAV), and choose its track."""

from __future__ import annotations

import io
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from sfisep_core.audio.container_sizes import SampleData
from sfisep_core.audio.source_files import FileView, unreadable
from sfisep_core.errors import AudioFileError

# Formats that hold the samples themselves. Playlists, scripts and other formats that name further
# files stay out, whatever suffix they bear. Names that a build of ffmpeg lacks do no harm.
_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,latm,loas,matroska,mlp,"
    "mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,oga,ogg,oma,rm,shn,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
)


def open_container(path: Path, raw: io.FileIO, sizes: SampleData | None) -> InputContainer:
    """Open a file, no other file, and no network.

    Args:
        path: The file.
        raw: The same, open; it stays open, and its position changes.
        sizes: What its chunks say.

    Returns:
        The container, to be closed.

    Raises:
        AudioFileError: If its format is not known.
    """
    # A protocol that exists nowhere: no format can open another file.
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
    raw.seek(0)
    head = raw.read(2).ljust(2, b"\0")
    # A short MP3 has too few packets to be recognised. The bits beside are those of its layer.
    kind = "mp3" if head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 6 else None
    # A WAV that announces nothing is read to its end.
    unread = sizes.start - 4 if sizes is not None and sizes.real_bytes() else None
    # The name helps to recognise formats that begin with no mark.
    name = f"audio{path.suffix}".encode("ascii", "replace").decode()
    source = FileView(raw, name=name, zeros_at=unread)
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
        The default track, else the first one; None if there is none that can be decoded. And what
        a user should know of the choice; empty if there was none to make.
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
    """Return the error for a file of which nothing can be decoded.

    Args:
        path: The file.
        raw: The same, open; its position changes.
        reason: What ffmpeg says, or what it lacks.
    """
    raw.seek(0)
    head = raw.read(16)
    found = f"data that begin with {head!r} (ffmpeg: {reason})"
    advice = "copy or download it again, or export it anew"
    return unreadable(path, "audio", found, advice)
