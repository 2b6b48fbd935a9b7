"""Write tags into files of this program. Mutagen is imported when a file is written."""

from __future__ import annotations

import base64
import errno
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

from sfisep_core.audio.tags import (
    FRONT_COVER,
    ID3_FRAMES,
    INFO_TEXTS,
    MP4_ATOMS,
    PROVENANCE,
    Picture,
    Tags,
)

# Atoms of any name.
_OWN_ATOM = "----:com.apple.iTunes:"
_MP4_LARGEST_NUMBER = 2**16 - 1
_MOST_DIGITS = 20  # Python converts no text of thousands
# A WAV header counts bytes in 32 bits.
_WAV_MAX_BYTES = 2**32 - 2**16


def write_tags(path: Path, tags: Tags) -> None:
    """Write tags into a file of this program that has none.

    Args:
        path: Complete file, .wav, .flac, .mp3, .ogg, .opus or .mp4; others get none. A WAV gets an
            ID3 chunk; a RF64, and a WAV that has no room for it, get none.
        tags: The tags.

    Raises:
        OSError: The disk does not take them.
    """
    from mutagen import MutagenError

    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        return
    try:
        write(path, tags)
    except MutagenError as error:
        cause = error.__cause__ or error.__context__
        reason = cause.strerror if isinstance(cause, OSError) else str(error)
        raise OSError(errno.EIO, reason) from error


def info_texts(tags: Tags) -> dict[str, str]:
    """Return the texts for the INFO list of a WAV, by libsndfile's names."""
    texts = {name: "; ".join(tags.texts[name]) for name in INFO_TEXTS if name in tags.texts}
    if PROVENANCE in tags.texts:
        texts["comment"] = f"{PROVENANCE}: {tags.texts[PROVENANCE][0]}"
    return texts


def _write_mp3(path: Path, tags: Tags) -> None:
    _id3(tags).save(path)


def _write_wav(path: Path, tags: Tags) -> None:
    from mutagen.wave import WAVE

    # For the name of program and model the INFO list will do, which troubles no program.
    if tags.picture is None and {*tags.texts} <= {PROVENANCE}:
        return
    with path.open("rb") as file:
        is_riff = file.read(4) == b"RIFF"
    chunk = len(tags.picture.content) if tags.picture else 0
    if is_riff and path.stat().st_size + chunk <= _WAV_MAX_BYTES:
        wave: Any = WAVE(path)
        wave.add_tags()
        for frame in _id3(tags).values():
            wave.tags.add(frame)
        wave.save()


def _id3(tags: Tags) -> Any:
    from mutagen import id3

    frames: Any = id3.ID3()
    for name, frame in ID3_FRAMES.items():
        if name in tags.texts:
            frames.add(getattr(id3, frame)(encoding=id3.Encoding.UTF8, text=list(tags.texts[name])))
    if PROVENANCE in tags.texts:
        text = list(tags.texts[PROVENANCE])
        frames.add(id3.TXXX(encoding=id3.Encoding.UTF8, desc=PROVENANCE.upper(), text=text))
    if tags.picture:
        picture = tags.picture
        frames.add(id3.APIC(mime=picture.media_type, type=FRONT_COVER, data=picture.content))
    return frames


def _write_flac(path: Path, tags: Tags) -> None:
    from mutagen.flac import FLAC

    file: Any = FLAC(path)
    if tags.picture:
        file.add_picture(_flac_picture(tags.picture))
    _save_vorbis(file, tags)


def _write_ogg(path: Path, tags: Tags) -> None:
    from mutagen.oggopus import OggOpus
    from mutagen.oggvorbis import OggVorbis

    file: Any = (OggOpus if path.suffix.lower() == ".opus" else OggVorbis)(path)
    if tags.picture:
        block = base64.b64encode(_flac_picture(tags.picture).write()).decode()
        file["metadata_block_picture"] = [block]
    _save_vorbis(file, tags)


def _save_vorbis(file: Any, tags: Tags) -> None:
    for name, values in tags.texts.items():
        file[name] = list(values)
        if name in ("tracknumber", "discnumber") and "/" in values[0]:
            file[name], file[f"{name.removesuffix('number')}total"] = values[0].split("/", 1)
    file.save()


def _write_mp4(path: Path, tags: Tags) -> None:
    from mutagen.mp4 import MP4, MP4Cover

    file: Any = MP4(path)
    for name, values in tags.texts.items():
        atom = MP4_ATOMS.get(name, f"{_OWN_ATOM}{name.upper()}")
        numbers = [_whole(part) for part in (*values[0].split("/"), "")[:2]]
        if atom in ("trkn", "disk", "tmpo") and not numbers[0]:
            continue
        if atom in ("trkn", "disk"):
            file[atom] = [(numbers[0], numbers[1])]
        elif atom == "tmpo":
            file[atom] = numbers[:1]
        else:
            is_own = atom.startswith(_OWN_ATOM)
            file[atom] = [value.encode() if is_own else value for value in values]
    if tags.picture and tags.picture.media_type in ("image/jpeg", "image/png"):
        is_png = tags.picture.media_type == "image/png"
        kind = MP4Cover.FORMAT_PNG if is_png else MP4Cover.FORMAT_JPEG
        file["covr"] = [MP4Cover(tags.picture.content, kind)]
    file.save()


def _whole(text: str) -> int:
    """Return a number that a text begins with, as MP4 has 16 bits for it; 0 if there is none."""
    digits = "".join(takewhile(str.isdecimal, text.strip()))[:_MOST_DIGITS]
    return min(int(digits or 0), _MP4_LARGEST_NUMBER)


def _flac_picture(picture: Picture) -> Any:
    from mutagen.flac import Picture as FlacPicture

    block: Any = FlacPicture()
    block.type, block.mime, block.data = FRONT_COVER, picture.media_type, picture.content
    return block


_WRITERS: dict[str, Callable[[Path, Tags], None]] = {
    ".mp3": _write_mp3,
    ".wav": _write_wav,
    ".flac": _write_flac,
    ".ogg": _write_ogg,
    ".opus": _write_ogg,
    ".mp4": _write_mp4,
}
